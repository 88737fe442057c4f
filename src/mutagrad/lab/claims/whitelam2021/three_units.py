"""The same laws on a net of three units, on which the next order, the floor and their neighbours are told apart in seconds.

On the net of Fig. 1 noise is as large as the start, so that the order after the next one is large, and runs are too few for Δ and
the excess of the loss to tell a law from its neighbours. Here 10⁵ runs take seconds: nine weights from N(0, 10⁻²), 50 points.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.ensemble import Runs
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.whitelam2021.descent import greedy
from mutagrad.lab.claims.whitelam2021.fluctuations import Fluctuations, fluctuations

__all__ = ["Distances", "distances", "expected", "law_of", "runs_of", "slope", "start", "terms", "times"]

POINTS, TIME, RECORDS = 50, 0.6, 3
"""The net is compared at t = 0.2, 0.4 and 0.6."""
_AT_ONCE = 4096
_BLOCKS = 64


class Distances(NamedTuple):
    """Δ at R times, with standard errors: of the mean of all runs, and of means of a few.

    Attributes
    ----------
    whole, whole_errors : (R,), of the logarithm of Δ.
    few, few_errors : (R,), of Δ.
    """

    whole: np.ndarray
    whole_errors: np.ndarray
    few: np.ndarray
    few_errors: np.ndarray


def times() -> np.ndarray:
    """(R,) at which the net is compared."""
    return np.arange(1, RECORDS + 1) * TIME / RECORDS


def start() -> jax.Array:
    """(9,) weights of standard deviation 0.1."""
    return 10 * shallow_start(units=3)


def law_of(job: Job) -> Fluctuations:
    """The next order along gradient descent on this net."""
    return fluctuations(job, start(), TIME, RECORDS, POINTS)


def runs_of(job: Job, step: float, number: int, seed: int) -> Runs:
    """Runs of greedy selection with the normalised learning rate ``step``, at the three times."""
    name = f"three units greedy λα {step:g} of {number} seed {seed}"
    kept = job.load(name)
    if kept is not None:
        return Runs(kept["params"], kept["losses"])
    algorithm, between = greedy(step), round(TIME / step / RECORDS)

    def losses_fn(x):
        return shallow_losses(x, POINTS)

    @jax.jit
    def advance(keys):
        def run(key):
            def record(state, first):
                def body(i, state):
                    return algorithm.step(jax.random.fold_in(key, first + i), state, losses_fn)[0]

                state = jax.lax.fori_loop(0, between, body, state)
                return state, (state.params, jnp.mean(losses_fn(state.params)))

            return jax.lax.scan(record, algorithm.init(start(), losses_fn), jnp.arange(RECORDS) * between)[1]

        return jax.vmap(run)(keys)

    found = []
    for first in range(0, number, _AT_ONCE):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), first), min(_AT_ONCE, number - first))
        found.append([np.asarray(part) for part in advance(keys)])
        job.progress((first + len(keys)) / number)
    runs = Runs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    job.keep(name, runs._asdict(), is_last=True)
    return runs


def terms(runs: Runs, law: Fluctuations, step: float) -> dict[str, np.ndarray]:
    """The excess of each run's loss and what it is the sum of, (n,) each, regressed over time on their laws: 1 in the mean."""
    apart = runs.params.astype(float) - law.descent
    middle = apart - apart.mean(0)
    number = len(apart)
    shift = np.einsum("ti,ti->t", law.slopes, law.shift)
    found = {
        "excess": (runs.losses.astype(float) - law.losses, law.excess),
        "shift": (np.einsum("nti,ti->nt", apart, law.slopes), shift),
        "curvature": (
            np.einsum("nti,tij,ntj->nt", middle, law.curvatures, middle) / 2 * number / (number - 1),
            law.excess - shift,
        ),
    }
    return {name: values @ known / (known @ known) / step for name, (values, known) in found.items()}


def distances(runs: Runs, law: Fluctuations, few: int) -> Distances:
    """Δ of the mean of all runs, and of the means of ``few`` of them."""
    apart = runs.params.astype(float) - law.descent
    blocks = apart.reshape(_BLOCKS, -1, *apart.shape[1:]).mean(1)
    # Without one block of runs after the other.
    without = (blocks.sum(0) - blocks) / (_BLOCKS - 1)
    logs = np.log(np.mean(np.square(without), axis=-1))
    errors = np.sqrt((_BLOCKS - 1) * logs.var(0))
    groups = np.mean(np.square(apart.reshape(-1, few, *apart.shape[1:]).mean(1)), axis=-1)
    return Distances(
        np.log(np.mean(np.square(blocks.mean(0)), axis=-1)), errors,
        groups.mean(0), groups.std(0, ddof=1) / math.sqrt(len(groups)),
    )  # fmt: skip


def expected(law: Fluctuations, step: float, number: int) -> np.ndarray:
    """Δ by the next order, (R,): the square of the mean's shift, and the floor of ``number`` runs."""
    size = law.shift.shape[1]
    floor = step / number * np.einsum("tii->t", law.covariance)
    return (step**2 * np.sum(np.square(law.shift), axis=1) + floor) / size


def slope(steps: Any, values: Any, errors: Any) -> tuple[float, float]:
    """Slope of values on the logarithm of the learning rate, and its standard error."""
    logs = np.log(np.asarray(steps, float))
    weights = (logs - logs.mean()) / np.sum(np.square(logs - logs.mean()))
    return float(weights @ np.asarray(values)), float(np.sqrt(np.square(weights) @ np.square(errors)))
