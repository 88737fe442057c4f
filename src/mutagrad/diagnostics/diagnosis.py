"""diagnose: is σ right, how many offspring, will it converge, and what would gradients have bought? (theory.md 3, 4, 8)"""

import math
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np

from mutagrad import check, tree
from mutagrad.diagnostics.checks import evaluator_of
from mutagrad.diagnostics.findings import describe, draw
from mutagrad.diagnostics.kind import ROUNDINGS, LossKind
from mutagrad.diagnostics.plans import Plan, optimum, yardstick
from mutagrad.diagnostics.probes import CHUNK, Prober, landscape
from mutagrad.diagnostics.prospects import (
    Forecast,
    at_most,
    forecast_of,
    gain_of,
    is_bound,
    measured_gain,
    plans_of,
    told_gain,
)
from mutagrad.diagnostics.regime import Regime, unknown_regime
from mutagrad.diagnostics.steps import along_of
from mutagrad.diagnostics.survey import smoothed, survey
from mutagrad.estimate import Estimate
from mutagrad.law import OrderStatistic, RankWeights
from mutagrad.mutation import gaussian
from mutagrad.selection import elitist
from mutagrad.theory.curvature import largest_eigenvalue
from mutagrad.types import Algorithm, Definition, Params, UnknownDefinition

__all__ = ["Diagnosis", "diagnose"]

_LANCZOS_STEPS = 12
_DEFAULT_SIGMA = 0.01
"""Where the search for σ starts, in units of the parameters' root mean square."""


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
    kind : the `LossKind`. Of a rough or noisy loss ``best`` and the plans are those of the slope and curvature below.
    rounds_below : σ below which the losses of two mutants differ by rounding, to an order of magnitude [parameter].
    definition : of the algorithm whose best σ is meant, (1+M) unless one was passed.
    plans : tuple of `Plan`: the algorithm asked about; (1+M) with the M that is best per evaluation, and with the workers there
        are; and some others. Empty where no best σ is known.
    gain : expected decrease per generation at the σ asked about, with its standard error, or without one its upper bound [loss];
        ``None`` without a σ, or where it is not known.
    batch_size : the gradient noise scale TrC/|g|² [examples], a batch of which gains half per generation of what the whole
        data would; ``None`` for a scalar loss, NaN where the slope is not told from noise.
    is_sampled : whether each generation is taken to see a batch drawn afresh.
    largest_eigenvalue : λ_max of the Hessian, by what mutates, with its bound; ``None`` without derivatives, or unless asked for.
    effective_rank : r = TrH/λ_max, TrH as the mutations meet it; where there is no λ_max its upper bound (TrH)²/Tr(H²).
    slowdown : generations at the best σ that gain |g|²/(2λ_max), r/(2 G_M(s*)). A step of gradient descent with learning rate
        1/λ_max gains at least that, and at most twice as much, on a quadratic loss of positive curvatures.
    no_gradient : why there is no λ_max although it was asked for, or "".
    forecast : see `Forecast`; ``None`` without a plan.
    parent_noise : standard deviation of the loss of the params when it is evaluated again; ``None`` for a compiled loss [loss].
    num_evaluations, seconds_per_evaluation : what the diagnosis took, and what plans per second are counted with.
    num_workers : evaluations at the same time.
    hides_noise : whether the loss is a mean over a batch that generations draw afresh: then this batch's best σ is not theirs,
        and none is given.
    gains_are_bounds : whether the gains of the plans are upper bounds, without an error: losses of mutants are not normal, or
        would be below 0, where none was seen.
    mutates_from : σ at which a mutant has one mutation in the mean; 0 unless all params are discrete [parameter].
    """

    loss: float
    num_parameters: int
    num_examples: int
    num_offspring: int
    current: Regime | None
    best: Regime
    has_optimum: bool
    kind: LossKind
    rounds_below: float
    definition: Definition
    plans: tuple[Plan, ...]
    gain: Estimate | None
    batch_size: Estimate | None
    is_sampled: bool
    largest_eigenvalue: Estimate | None
    effective_rank: Estimate | None
    slowdown: Estimate | None
    no_gradient: str
    forecast: Forecast | None
    parent_noise: Estimate | None
    num_evaluations: int
    seconds_per_evaluation: float
    num_workers: int
    hides_noise: bool = False
    gains_are_bounds: bool = False
    mutates_from: float = 0.0

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
    evaluation: Any = "auto",
    num_workers: int = 1,
    cost_per_evaluation: float | None = None,
    decrease: float | None = None,
    num_pairs: int = 32,
    use_gradient: bool = False,
) -> Diagnosis:
    """Say whether σ is right, how many offspring to make, how far it will get, and what gradients would have bought.

    Pairs of opposite mutations are evaluated at the σ asked about and near the best one, which is found from a start that
    may be wrong by orders of magnitude: their losses alone give slope, curvature and sampling noise. Pairs at smaller σ, and
    at larger ones, tell a smooth loss from a rough and from a noisy one. Where the loss can be differentiated, λ_max gives the
    effective rank.

    Parameters
    ----------
    key : a key; the same key gives the same diagnosis, but for times.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there is a batch; per-example losses show the noise.
    params : pytree, where to diagnose: at the start of a run, or later in it (``result.params``).
    algorithm : whose σ, M and mutation are meant; gaussian (1+20) and no σ unless given. For one whose σ changes pass
        ``sigma=result.state.sigma``. For one of algorithms that take turns, pass that one.
    num_offspring : M asked about; the algorithm's unless given. The weights of recombination are of its own M alone.
    sigma : σ asked about [parameter]; the algorithm's unless given.
    batch : examples for ``loss_fn``, such as one batch of those that a run draws.
    resampled : whether generations draw batches afresh, of as many examples; if ``batch`` is given, unless told otherwise.
    evaluation : ``mutagrad.executor(pool)`` for a loss that is ordinary Python. Its noise is seen by evaluating the params again.
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

    Domain: best σ and M hold for a loss with many curvature eigenvalues (ΔU nearly normal); with few, the best s is
    smaller, and so are the gains. The algorithm's best σ is its own for (1+M), (1,M), truncation and recombination,
    otherwise that of (1+M), which `print` says. TrH is what mutations of this σ meet, kinks included. A diagnosis is of one
    place. Memory: 7 to 10 models, beside what SciPy and the compiler take at the first diagnosis of a process; 13 models with it
    for ten million parameters (benchmarks/results/diagnosis.md).

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
        asked = float(check.scale("sigma", asked))
    for name, value in (("cost_per_evaluation", cost_per_evaluation), ("decrease", decrease)):
        if value is not None:
            check.positive(name, value)
    # None where σ changes: it is not asked about.
    mutation = gaussian() if definition is None else definition.mutation
    if definition is None:
        definition = Definition(None, mutation, elitist(), num_offspring)
    rule = _with_offspring(definition, num_offspring)
    probe_key, curvature_key = jax.random.split(check.key(key))
    evaluator = evaluator_of(evaluation)
    prober = Prober(probe_key, loss_fn, params, mutation, batch, None if evaluator.is_traceable else evaluator)
    is_sampled = batch is not None if resampled is None else bool(resampled)

    target, first = optimum(num_offspring)[0], _first_sigma(prober.mutated) if asked is None else asked
    pairs = prober.pairs(first)
    hides_noise = is_sampled and prober.num_examples == 1
    current = None
    if asked is not None:
        if num_pairs > CHUNK:
            pairs = pairs.with_more(prober.pairs(asked, num_pairs - CHUNK))
        current = landscape(pairs, prober.num_examples) if len(pairs.odd) > 1 else None
    around = pairs
    pairs, has_optimum = prober.search(pairs, target)
    if num_pairs > len(pairs.odd) and has_optimum:
        pairs = pairs.with_more(prober.pairs(pairs.sigma, num_pairs - len(pairs.odd)))
    found = survey(prober, pairs.sigma if has_optimum else first, asked, max(2 * CHUNK, num_pairs // 2))
    kind = found.kind
    best = landscape(pairs, prober.num_examples) if len(pairs.odd) > 1 else unknown_regime(pairs.sigma)
    if kind.name in ("flat", "minimum", "rounding", "noise", "failing") or hides_noise:
        has_optimum = False
    elif kind.name in ("rough", "noisy", "rough or noisy"):
        below = smoothed(prober, found, target, num_pairs)
        best, has_optimum = best if below is None else below, below is not None
    has_optimum = has_optimum and best.hessian_trace.value > 0 and best.squared_batch_grad_norm.value > 0

    cost = cost_per_evaluation or prober.seconds_per_evaluation
    # A loss of which nothing negative was seen is taken to have none.
    seen = [one.even - np.abs(one.odd) for one in (around, pairs)]
    most = prober.loss if prober.loss + min(one.min(initial=0) for one in seen) >= -prober.rounding else math.inf
    plans = plans_of(best, rule, num_workers, cost, is_sampled, most) if has_optimum else ()
    are_bounds = bool(plans) and is_bound(plans[0], best, pairs, rule, most)
    plans = tuple(at_most(one, most) for one in plans) if are_bounds else plans
    are_bounds = are_bounds or (bool(plans) and not math.isfinite(plans[0].gain.error))
    rank = None
    slowdown = None
    largest, reason = _largest_eigenvalue(prober, curvature_key) if use_gradient else (None, "")
    if has_optimum:
        unit = yardstick(rule, along=along_of(best, rule).counted).gain
        rank = best.participation_ratio
        if largest is not None:
            trace = best.hessian_trace
            value = trace.value / largest.value
            rank = Estimate(value, value * math.hypot(trace.error / trace.value, largest.error / largest.value))
        slowdown = Estimate(rank.value / (2 * unit), rank.error / (2 * unit))
    slope = math.sqrt(max(best.squared_batch_grad_norm.value, 0))
    rounds_below = max(prober.smallest_sigma, ROUNDINGS * prober.rounding / slope if slope > 0 else 0)
    is_told = kind.name in ("smooth", "undecided") and current is not None and current.sigma.value >= rounds_below
    again = prober.repeats
    gain = None
    if current is not None and is_told and not hides_noise:
        # Pairs are of one batch: where another one selects, their best gains more than the loss does.
        own = measured_gain(around, rule) if not is_sampled else None
        gain = told_gain(gain_of(current, rule, is_sampled), own, current, most)
    return Diagnosis(
        loss=prober.loss,
        num_parameters=prober.num_mutated,
        num_examples=prober.num_examples,
        num_offspring=num_offspring,
        current=current,
        best=best,
        has_optimum=has_optimum,
        kind=kind,
        rounds_below=rounds_below,
        definition=rule,
        plans=plans,
        gain=gain,
        batch_size=best.noise_scale if prober.num_examples > 1 else None,
        is_sampled=is_sampled,
        largest_eigenvalue=largest,
        effective_rank=rank,
        slowdown=slowdown,
        no_gradient=reason,
        forecast=forecast_of(plans[0], prober.loss, decrease) if plans and not are_bounds else None,
        parent_noise=_spread(again) if len(again) else None,
        num_evaluations=prober.num_evaluations,
        seconds_per_evaluation=cost,
        num_workers=num_workers,
        hides_noise=hides_noise,
        gains_are_bounds=are_bounds,
        mutates_from=prober.mutates_from,
    )


def _with_offspring(definition: Definition, number: int) -> Definition:
    """The definition with another M, or a ValueError where its selection rule is of an M of its own."""
    law = definition.selection.law
    if isinstance(law, RankWeights) and number != len(law.weights):
        raise ValueError(
            f"num_offspring: got {number} for recombination, whose {len(law.weights)} weights are of as many offspring; pass "
            f"algorithm=mutagrad.weighted_recombination(num_offspring={number}, ...)"
        )
    if isinstance(law, OrderStatistic) and number < law.num_winners:
        raise ValueError(f"num_offspring: got {number} for truncation to {law.num_winners}; pass at least as many")
    return definition._replace(num_offspring=number)


def _spread(again: np.ndarray) -> Estimate:
    """The standard deviation of a loss, from the differences of two evaluations each."""
    size = math.sqrt(float(np.mean(again**2)) / 2)
    return Estimate(size, size / math.sqrt(2 * len(again)), "loss")


def _first_sigma(params: Params) -> float:
    size = tree.root_mean_square(params)
    return _DEFAULT_SIGMA * (size if 0 < size < math.inf else 1.0)


def _largest_eigenvalue(prober: Prober, key: jax.Array) -> tuple[Estimate | None, str]:
    """λ_max of what mutates, or why there is none."""

    def loss_fn(own: Params) -> jax.Array:
        return prober.loss_fn(jax.tree.map(lambda leaf, moved: leaf if moved is None else moved, prober.params, own))

    try:
        found = largest_eigenvalue(loss_fn, prober.mutated, key, num_steps=_LANCZOS_STEPS, tolerance=0.02)
    except (ValueError, ImportError) as error:
        return None, str(error).split("; ")[0]
    if not float(found.value) > 0:
        return None, "the Hessian has no positive eigenvalue here"
    return Estimate(float(found.value), float(found.error)), ""
