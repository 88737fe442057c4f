"""Train anything by mutation and selection, and know which gradient descent you are running."""

from mutagrad import diagnostics, evaluation, mutation, selection, theory, tree
from mutagrad.algorithms import (
    boltzmann,
    comma,
    elitist,
    fixation,
    greedy,
    logistic,
    metropolis,
    truncation,
    weighted_recombination,
)
from mutagrad.alternation import AlternateState, alternate, rotate
from mutagrad.batch_size import BatchSizeState, adapt_batch_size
from mutagrad.batches import Minibatches, minibatches
from mutagrad.diagnostics import diagnose
from mutagrad.generation import mutation_selection
from mutagrad.gradient_transformation import GradientTransformationState, as_gradient_transformation
from mutagrad.run import Result, default_record, evolve
from mutagrad.step_size import AdaptedState, adapt_sigma, schedule_sigma
from mutagrad.types import Algorithm, Definition, Info, Mutation, PopulationState, Selection, State, Turns

__all__ = [
    "AdaptedState",
    "Algorithm",
    "AlternateState",
    "BatchSizeState",
    "Definition",
    "GradientTransformationState",
    "Info",
    "Minibatches",
    "Mutation",
    "PopulationState",
    "Result",
    "Selection",
    "State",
    "Turns",
    "adapt_batch_size",
    "adapt_sigma",
    "alternate",
    "as_gradient_transformation",
    "boltzmann",
    "comma",
    "default_record",
    "diagnose",
    "diagnostics",
    "elitist",
    "evaluation",
    "evolve",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "minibatches",
    "mutation",
    "mutation_selection",
    "rotate",
    "schedule_sigma",
    "selection",
    "theory",
    "tree",
    "truncation",
    "weighted_recombination",
]
__version__ = "0.1.0"
