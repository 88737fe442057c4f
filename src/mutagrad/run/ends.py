"""Both ends of a run: whether a state can go on, and what is left to do when a run has ended."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import notice
from mutagrad.algorithms.genomes.genomes import GenomeState
from mutagrad.types import Algorithm, PopulationState, State

__all__ = ["check_state", "close_all", "one_line", "say_if_other_sigma"]


def check_state(algorithm: Algorithm, state: Any) -> None:
    """Refuse the state of another algorithm."""
    try:
        # Not traced: where algorithms take turns, the generation says whose turn it is.
        algorithm.ask(jax.random.key(0), state)
    except (AttributeError, TypeError):
        raise ValueError(
            f"params: got the Result of another algorithm (its state is {type(state).__name__}); continue with the one that made "
            "it, or start from result.params"
        ) from None


def say_if_other_sigma(algorithm: Algorithm, state: Any) -> None:
    """Warn where the state of a run that goes on has another σ than an algorithm that does not change it."""
    own = None
    if isinstance(state, State | PopulationState):
        own = getattr(algorithm.definition, "sigma", None)
    elif isinstance(state, GenomeState):
        own = algorithm.init(jax.tree.map(jnp.zeros_like, state.params)).sigma
    if own is None:
        return
    kept, given = (float(np.mean(one)) for one in (state.sigma, own))
    if not math.isclose(kept, given, rel_tol=1e-6):
        notice.warn(
            f"sigma: the run goes on with {kept:.7g}, which its state has, and not with {given:.7g} of the algorithm; for that, "
            f"start from result._replace(state=result.state.with_sigma({given:.7g}))"
        )


def close_all(observers: Sequence[Any]) -> Exception | None:
    """End all observers; the first error of them. Ctrl-C is raised when all were ended."""
    failed, ended = None, None
    for observer in observers:
        try:
            getattr(observer, "close", lambda: None)()
        except Exception as error:
            failed = failed or error
        except BaseException as error:
            ended = ended or error
    if ended is not None:
        raise ended
    return failed


def one_line(error: Exception) -> str:
    """The kind of an error, and the last line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[-1][:200] if text else ''}"
