"""diagnose: is σ right, how many offspring, will it converge, and what would gradients have bought? (theory.md 3, 4, 8)"""

import math
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np

from mutagrad import check, tree
from mutagrad.diagnostics.findings import describe, draw
from mutagrad.diagnostics.plans import Plan, best_number, gain_on_batch, optimum, plan
from mutagrad.diagnostics.probes import CHUNK, Prober, landscape
from mutagrad.diagnostics.regime import Regime
from mutagrad.estimate import Estimate
from mutagrad.mutation import gaussian
from mutagrad.theory.curvature import largest_eigenvalue
from mutagrad.theory.progress import best_of_moment
from mutagrad.types import Algorithm, Params, UnknownDefinition

__all__ = ["Diagnosis", "Forecast", "diagnose"]

_LANCZOS_STEPS = 12
SMALLEST_SIGNAL = 0.1
"""|g|/|g_B| is not taken to be less: below it nothing is told from noise."""
_DEFAULT_SIGMA = 0.01
"""Where the search for σ starts, in units of the parameters' root mean square."""


class Forecast(NamedTuple):
    """How many generations a decrease takes, between two assumptions.

    Attributes
    ----------
    decrease : of the loss [loss].
    num_offspring : M of the generations that are counted, each at its best σ.
    soonest : generations if |∇U|²/TrH stays as it is, the gain two standard errors above its estimate.
    latest : generations if |∇U|²/TrH falls in proportion to the loss, whose least value is 0, the gain two standard errors
        below its estimate; infinite where that is not positive.

    Neither is a bound. On quadratic losses of 200 parameters with equal curvatures, adapt_sigma of (1+20) was between the two
    at a decrease of a tenth and of a half (6 runs of 6); with curvatures 1/k it took two to six times the latest for a half.
    """

    decrease: float
    num_offspring: int
    soonest: float
    latest: float


class Diagnosis(NamedTuple):
    """What `diagnose` found; `print` says it in sentences, followed by a table of plans.

    Attributes
    ----------
    loss : at the params [loss].
    num_parameters, num_examples : N, and the per-example losses B (1 for a scalar loss).
    num_offspring : M asked about.
    current : the `Regime` at the σ asked about, or ``None`` if there was none.
    best : the `Regime` at a σ close to the best one for M.
    has_optimum : whether curvature was found, without which there is no best σ and no plan.
    plans : tuple of `Plan`: M as asked about; the best per evaluation, and with the workers there are; and some others.
    gain : expected decrease per generation of (1+M) at the σ asked about [loss]; ``None`` without one.
    batch_size : the gradient noise scale TrC/|g|² [examples], a batch of which gains half per generation of what the whole
        data would; ``None`` for a scalar loss, NaN where the slope is not told from noise.
    is_sampled : whether each generation is taken to see a batch drawn afresh.
    largest_eigenvalue : λ_max of the Hessian, with its bound; ``None`` without derivatives, or unless asked for.
    effective_rank : r = TrH/λ_max, TrH as the mutations meet it; where there is no λ_max its upper bound (TrH)²/Tr(H²).
    slowdown : generations of (1+M) at its best σ for one step of gradient descent with learning rate 1/λ_max, r/(2 G_M(s*)).
    no_gradient : why there is no λ_max although it was asked for, or "".
    forecast : see `Forecast`; ``None`` without a plan.
    num_evaluations, seconds_per_evaluation : what the diagnosis took, and what plans per second are counted with.
    num_workers : evaluations at the same time.
    """

    loss: float
    num_parameters: int
    num_examples: int
    num_offspring: int
    current: Regime | None
    best: Regime
    has_optimum: bool
    plans: tuple[Plan, ...]
    gain: float | None
    batch_size: Estimate | None
    is_sampled: bool
    largest_eigenvalue: Estimate | None
    effective_rank: Estimate | None
    slowdown: Estimate | None
    no_gradient: str
    forecast: Forecast | None
    num_evaluations: int
    seconds_per_evaluation: float
    num_workers: int

    def __repr__(self) -> str:
        return describe(self)

    def figure(self, path: str | PathLike) -> None:
        """Draw gain against σ for some M, with what was measured, and write it as an image (needs the ``lab`` extra)."""
        draw(self, path)


def diagnose(
    key: jax.Array,
    loss_fn: Callable,
    params: Params,
    algorithm: Algorithm | None = None,
    num_offspring: int | None = None,
    *,
    sigma: float | None = None,
    batch: Any = None,
    resampled: bool | None = None,
    num_workers: int = 1,
    cost_per_evaluation: float | None = None,
    decrease: float | None = None,
    num_pairs: int = 32,
    use_gradient: bool = False,
) -> Diagnosis:
    """Say whether σ is right, how many offspring to make, how far it will get, and what gradients would have bought.

    Pairs of opposite mutations are evaluated at the σ asked about and near the best one, which is found from a start that
    may be wrong by orders of magnitude: their losses alone give slope, curvature and sampling noise. Where the loss can
    be differentiated, λ_max gives the effective rank.

    Parameters
    ----------
    key : a key; the same key gives the same diagnosis, but for times.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there is a batch; per-example losses show the noise.
    params : pytree, where to diagnose: at the start of a run, or later in it (``result.params``).
    algorithm : whose σ, M and mutation are meant; gaussian (1+20) and no σ unless given. For one whose σ changes pass
        ``sigma=result.state.sigma``. For one of algorithms that take turns, pass that one.
    num_offspring : M asked about; the algorithm's unless given.
    sigma : σ asked about [parameter]; the algorithm's unless given.
    batch : examples for ``loss_fn``, such as one batch of those that a run draws.
    resampled : whether generations draw batches afresh, of as many examples; if ``batch`` is given, unless told otherwise.
    num_workers : evaluations that run at the same time.
    cost_per_evaluation : seconds of each; measured unless given.
    decrease : of the loss, to forecast; a tenth of the loss unless given [loss].
    num_pairs : pairs of mutations for each σ; a standard error of |g|² is √(2/num_pairs) of it.
    use_gradient : whether to measure λ_max too, where the loss can be differentiated: some 25 Hessian-vector products, of
        which the compilation takes longer than all the rest for a convolutional network. Without it the effective rank is
        bounded by the participation ratio.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError : if an argument is outside its domain, the algorithm has no single definition, or the loss is not finite at
        the params.

    Domain: best σ and M are those of (1+M) on a loss with many curvature eigenvalues (ΔU nearly normal); with few, the best
    s is smaller. TrH is what mutations of this σ meet, kinks included. A diagnosis is of one place. Memory: a few models.

    Source: theory.md 3, 4 and 8, derived for this project, tested in tests/diagnostics/test_diagnosis.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> loss_fn = lambda x: jnp.sum(x**2) / 2
    >>> found = mutagrad.diagnose(jax.random.key(0), loss_fn, jnp.ones(400), sigma=1e-4, use_gradient=False)
    >>> 0.07 < found.plans[0].sigma.value < 0.12                                                # 1.892 |g|/TrH = 0.095
    True
    >>> str(found).split(":")[0]
    'σ = 0.0001 is too small'
    """
    definition = None if algorithm is None else check.algorithm(algorithm).definition
    if isinstance(definition, UnknownDefinition):
        raise ValueError(f"algorithm: {definition.reason}; here pass one of them, or sigma= and num_offspring= alone")
    num_workers = check.count("num_workers", num_workers)
    num_pairs = check.count("num_pairs", num_pairs, CHUNK)
    if num_offspring is None:
        num_offspring = 20 if definition is None else definition.num_offspring
    num_offspring = check.count("num_offspring", num_offspring)
    asked = sigma if sigma is not None or definition is None else definition.sigma
    if asked is not None:
        asked = float(check.positive("sigma", asked))
    for name, value in (("cost_per_evaluation", cost_per_evaluation), ("decrease", decrease)):
        if value is not None:
            check.positive(name, value)
    mutation = gaussian() if definition is None else definition.mutation
    probe_key, curvature_key = jax.random.split(check.key(key))
    prober = Prober(probe_key, loss_fn, params, mutation, batch)
    is_sampled = batch is not None if resampled is None else bool(resampled)

    target, most = optimum(num_offspring)
    pairs = prober.pairs(_first_sigma(prober.params) if asked is None else asked)
    if not math.isfinite(prober.loss):
        raise ValueError(
            f"loss_fn: got {prober.loss} at the params, before any mutation; pass params at which the loss is finite"
        )
    current = None
    if asked is not None:
        if num_pairs > CHUNK:
            pairs = pairs.with_more(prober.pairs(asked, num_pairs - CHUNK))
        current = landscape(pairs, prober.num_examples) if len(pairs.odd) > 1 else None
    pairs, has_optimum = prober.search(pairs, target)
    if num_pairs > len(pairs.odd) and has_optimum:
        pairs = pairs.with_more(prober.pairs(pairs.sigma, num_pairs - len(pairs.odd)))
    if len(pairs.odd) < 2:
        raise ValueError(
            f"loss_fn: got no finite loss of a mutant, down to σ = {pairs.sigma:.2g}; check the loss around the params"
        )
    best = landscape(pairs, prober.num_examples)
    has_optimum = has_optimum and best.hessian_trace.value > 0 and best.squared_batch_grad_norm.value > 0

    cost = cost_per_evaluation or prober.seconds_per_evaluation
    plans = _plans(best, num_offspring, num_workers, cost, is_sampled) if has_optimum else ()
    rank = None
    slowdown = None
    largest, reason = _largest_eigenvalue(prober, curvature_key) if use_gradient else (None, "")
    if has_optimum:
        rank = best.participation_ratio
        if largest is not None:
            trace = best.hessian_trace
            value = trace.value / largest.value
            rank = Estimate(value, value * math.hypot(trace.error / trace.value, largest.error / largest.value))
        slowdown = Estimate(rank.value / (2 * most), rank.error / (2 * most))
    return Diagnosis(
        loss=prober.loss,
        num_parameters=tree.size(prober.params),
        num_examples=prober.num_examples,
        num_offspring=num_offspring,
        current=current,
        best=best,
        has_optimum=has_optimum,
        plans=plans,
        gain=None if current is None else _gain(current, num_offspring, is_sampled),
        batch_size=best.noise_scale if prober.num_examples > 1 else None,
        is_sampled=is_sampled,
        largest_eigenvalue=largest,
        effective_rank=rank,
        slowdown=slowdown,
        no_gradient=reason,
        forecast=_forecast(plans[0], prober.loss, decrease) if plans else None,
        num_evaluations=prober.num_evaluations,
        seconds_per_evaluation=cost,
        num_workers=num_workers,
    )


def _first_sigma(params: Params) -> float:
    size = math.sqrt(float(jax.jit(tree.squared_norm)(params)) / tree.size(params))
    return _DEFAULT_SIGMA * (size if 0 < size < math.inf else 1.0)


def _signal(found: Regime, is_sampled: bool) -> float:
    return max(found.signal.value, SMALLEST_SIGNAL) if is_sampled else 1.0


def _gain(found: Regime, num_offspring: int, is_sampled: bool) -> float | None:
    """Expected decrease per generation of (1+M) at a σ that need not be the best [loss]."""
    slope, strength = math.sqrt(max(found.squared_batch_grad_norm.value, 0)), found.normalized_mutation_strength.value
    if slope == 0 or not math.isfinite(strength):
        return None
    if strength <= 0.01:
        # Without curvature to speak of it is the drift's.
        return best_of_moment(num_offspring) * found.sigma.value * slope * _signal(found, is_sampled) ** 2
    gain = gain_on_batch(np.array(strength), num_offspring, _signal(found, is_sampled))
    return float(gain) * slope**2 / found.hessian_trace.value


def _plans(best: Regime, num_offspring: int, num_workers: int, cost: float, is_sampled: bool) -> tuple[Plan, ...]:
    trace, slope, strength = best.hessian_trace, best.squared_batch_grad_norm, best.normalized_mutation_strength
    # |g_B|/TrH is σ/s, and has its relative error.
    unit_sigma = best.sigma.value / strength.value
    unit_gain = slope.value / trace.value
    sigma = Estimate(unit_sigma, unit_sigma * strength.error / strength.value)
    gain = Estimate(unit_gain, unit_gain * math.hypot(slope.error / slope.value, trace.error / trace.value))
    signal = _signal(best, is_sampled)
    wanted = [("asked about", num_offspring), ("most per evaluation", best_number(1, signal))]
    if num_workers > 1:
        workers = f"most per second with {num_workers} workers"
        wanted.append((workers, best_number(num_workers, signal)))
    known = {number for _, number in wanted}
    wanted += [("for comparison", number) for number in (1, 20, 100) if number not in known]
    return tuple(plan(purpose, number, sigma, gain, signal, num_workers, cost) for purpose, number in wanted)


def _largest_eigenvalue(prober: Prober, key: jax.Array) -> tuple[Estimate | None, str]:
    """λ_max, or why there is none."""
    try:
        found = largest_eigenvalue(prober.loss_fn, prober.params, key, num_steps=_LANCZOS_STEPS, tolerance=0.02)
    except (ValueError, ImportError) as error:
        return None, str(error).split("; ")[0]
    if not float(found.value) > 0:
        return None, "the Hessian has no positive eigenvalue here"
    return Estimate(float(found.value), float(found.error)), ""


def _forecast(chosen: Plan, loss: float, decrease: float | None) -> Forecast | None:
    if decrease is None:
        if loss <= 0:
            return None
        decrease = loss / 10
    most = chosen.gain.value + 2 * chosen.gain.error
    least = chosen.gain.value - 2 * chosen.gain.error
    latest = math.inf
    if least > 0 and decrease < loss:
        latest = -loss / least * math.log1p(-decrease / loss)
    return Forecast(decrease, chosen.num_offspring, decrease / most if most > 0 else math.inf, latest)
