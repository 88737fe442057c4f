"""Train anything by mutation and selection, and know which gradient descent you are running."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutagrad import diagnostics, estimates, evaluation, law, mutation, selection, theory, trackers, tree
    from mutagrad.algorithms import (
        GenomeInfo,
        Genomes,
        GenomeState,
        Parents,
        boltzmann,
        comma,
        elitist,
        fixation,
        greedy,
        logistic,
        metropolis,
        mutation_effect,
        mutation_selection,
        parents,
        population,
        record_genealogy,
        tree_sequence,
        truncation,
        weighted_recombination,
    )
    from mutagrad.control.alternate import AlternateState, alternate, rotate
    from mutagrad.control.batch_size import BatchSizeState, adapt_batch_size
    from mutagrad.control.early_rejection import early_rejection
    from mutagrad.control.sigma import AdaptedState, adapt_sigma, schedule_sigma
    from mutagrad.diagnostics import diagnose
    from mutagrad.evaluation import Evaluator, contest, executor, sharded
    from mutagrad.gradient_transformation import GradientTransformationState, as_gradient_transformation
    from mutagrad.offspring import Offspring
    from mutagrad.run.asynchronous import evolve_asynchronously
    from mutagrad.run.evolve import Result, RunError, evolve
    from mutagrad.run.lineage import Replayed, replay
    from mutagrad.run.loop import Chunk, default_record, generation_key, generations
    from mutagrad.run.minibatches import Minibatches, minibatches
    from mutagrad.run.observers import History, stop_after, stop_at_loss, stop_on_failures, stop_on_plateau
    from mutagrad.types import (
        Algorithm,
        Definition,
        Descent,
        Info,
        Mutation,
        PopulationState,
        Selection,
        State,
        UnknownDefinition,
    )

# Where each public name is: nothing is imported before it is asked for, so that `mutagrad --help` does not wait for JAX.
_PLACES = {
    "algorithms": "GenomeInfo GenomeState Genomes Parents boltzmann comma elitist fixation greedy logistic metropolis "
    "mutation_effect mutation_selection parents population record_genealogy tree_sequence truncation weighted_recombination",
    "control.alternate": "AlternateState alternate rotate",
    "control.batch_size": "BatchSizeState adapt_batch_size",
    "control.early_rejection": "early_rejection",
    "control.sigma": "AdaptedState adapt_sigma schedule_sigma",
    "diagnostics": "diagnose",
    "evaluation": "Evaluator contest executor sharded",
    "gradient_transformation": "GradientTransformationState as_gradient_transformation",
    "offspring": "Offspring",
    "run.asynchronous": "evolve_asynchronously",
    "run.evolve": "Result RunError evolve",
    "run.lineage": "Replayed replay",
    "run.loop": "Chunk default_record generation_key generations",
    "run.minibatches": "Minibatches minibatches",
    "run.observers": "History stop_after stop_at_loss stop_on_failures stop_on_plateau",
    "types": "Algorithm Definition Descent Info Mutation PopulationState Selection State UnknownDefinition",
}
_ROOMS = ("diagnostics", "estimates", "evaluation", "law", "mutation", "selection", "theory", "trackers", "tree")
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names.split()}

__all__ = [
    "AdaptedState",
    "Algorithm",
    "AlternateState",
    "BatchSizeState",
    "Chunk",
    "Definition",
    "Descent",
    "Evaluator",
    "GenomeInfo",
    "GenomeState",
    "Genomes",
    "GradientTransformationState",
    "History",
    "Info",
    "Minibatches",
    "Mutation",
    "Offspring",
    "Parents",
    "PopulationState",
    "Replayed",
    "Result",
    "RunError",
    "Selection",
    "State",
    "UnknownDefinition",
    "adapt_batch_size",
    "adapt_sigma",
    "alternate",
    "as_gradient_transformation",
    "boltzmann",
    "comma",
    "contest",
    "default_record",
    "diagnose",
    "diagnostics",
    "early_rejection",
    "elitist",
    "estimates",
    "evaluation",
    "evolve",
    "evolve_asynchronously",
    "executor",
    "fixation",
    "generation_key",
    "generations",
    "greedy",
    "law",
    "logistic",
    "metropolis",
    "minibatches",
    "mutation",
    "mutation_effect",
    "mutation_selection",
    "parents",
    "population",
    "record_genealogy",
    "replay",
    "rotate",
    "schedule_sigma",
    "selection",
    "sharded",
    "stop_after",
    "stop_at_loss",
    "stop_on_failures",
    "stop_on_plateau",
    "theory",
    "trackers",
    "tree",
    "tree_sequence",
    "truncation",
    "weighted_recombination",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("diagnose", "diagnostics"):
        import_module("mutagrad.report")  # the sentences and figures of findings
    if name in _ROOMS:
        return import_module(f"mutagrad.{name}")
    if name in _MODULE_OF:
        found = getattr(import_module(f"mutagrad.{_MODULE_OF[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'mutagrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
