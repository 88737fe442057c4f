"""Which kind of loss a training run met: mutations of its last parameters, whose σ is deliberate and not fed back."""

import jax
import numpy as np

from mutagrad.diagnostics import LossKind, loss_kind
from mutagrad.diagnostics.looks import last_held
from mutagrad.lab.training.problem import Problem
from mutagrad.report.text import kind_text
from mutagrad.run.evolve import Result
from mutagrad.run.signals import EXIT_STATUS

__all__ = ["FEWEST", "kind_words", "met"]

FEWEST = 500
"""A run of fewer generations is not worth the program that looks at its loss."""
_MOST_EXAMPLES = 2048


def met(problem: Problem, run: Result) -> LossKind | None:
    """The kind of loss at a run's last parameters, all of them mutated at once, on 2,048 training examples at most.

    Parameters
    ----------
    problem : of the run. run : its end.

    Returns
    -------
    LossKind from the last σ down; ``None`` after fewer than 500 generations, a run that was asked to end, or one whose loss, or
    that of every mutant, is not finite there.
    """
    if run.history is None or int(run.state.generation) < FEWEST or run.stopped in EXIT_STATUS:
        return None
    data = problem.task.data
    number = len(data.train_targets)
    chosen = np.random.default_rng(0).permutation(number)[: min(number, _MOST_EXAMPLES)]
    batch = (data.train_inputs[chosen], data.train_targets[chosen])
    sigma = last_held(run.history["sigma"])
    if not np.isfinite(np.mean(np.asarray(problem.task.loss_fn(run.params, batch)))):
        return None
    try:
        return loss_kind(jax.random.key(0), problem.task.loss_fn, run.params, sigma, batch=batch)
    except ValueError:
        return None


def kind_words(kind: LossKind | None, sigma: float) -> str:
    """A sentence for the summary and `mutagrad inspect`; "" without a kind."""
    return "" if kind is None else kind_text(kind, sigma)
