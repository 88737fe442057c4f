"""The mutational landscape: how losses of mutants are distributed, and how those of the better ones are (theory.md 3, 7)."""

import math
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mutagrad import check
from mutagrad.diagnostics.findings import describe, draw
from mutagrad.diagnostics.jackknife import BLOCKS, jackknife
from mutagrad.diagnostics.landscape.mutations import mutant_fn, mutation_of, share_of, strength_of
from mutagrad.diagnostics.landscape.pareto import ParetoFit, fit_pareto, normal_shape
from mutagrad.diagnostics.landscape.points import evaluate_points
from mutagrad.estimate import Estimate
from mutagrad.types import Params

__all__ = ["MutationalEffects", "mutational_effects"]


class MutationalEffects(NamedTuple):
    """How mutations of one σ change the loss; `print` says it in sentences.

    Attributes
    ----------
    loss : at the params [loss].
    sigma : mutation scale [parameter].
    changes : (n,) losses of mutants less that of the params, paired example by example; NaN for one that failed [loss].
    beneficial, neutral, failed : shares of the n mutations whose loss is lower, is exactly the same, is not finite, with
        their binomial errors (the standard deviations of Jeffreys' posteriors).
    strength : s = 2 mean(ΔU)/std(ΔU), from the same losses.
    predicted : Φ(−s/2), what s predicts for the share of beneficial ones, with the error that s gives it.
    excess : ``beneficial`` less ``predicted``, with the error of a jackknife over the mutations.
    pareto : generalised Pareto law of the effects −ΔU of the beneficial mutations above the threshold; ``None`` for fewer than
        ten of them, or where all are the same.
    normal_shape : the shape that a fit to as many effects of normal ΔU of this s finds above this threshold.
    quantile : share of the beneficial effects below the threshold.
    accuracy : of the params; ``None`` unless it was asked for.
    accuracy_changes : (n,) accuracies of mutants less that of the params; ``None`` unless asked for.
    num_mutated : parameters that mutate.
    num_examples : per-example losses; 1 for a scalar loss.
    """

    loss: float
    sigma: float
    changes: np.ndarray
    beneficial: Estimate
    neutral: Estimate
    failed: Estimate
    strength: Estimate
    predicted: Estimate
    excess: Estimate
    pareto: ParetoFit | None
    normal_shape: float
    quantile: float
    accuracy: float | None
    accuracy_changes: np.ndarray | None
    num_mutated: int
    num_examples: int

    @property
    def effects(self) -> np.ndarray:
        """−ΔU of the beneficial mutations [loss]."""
        return -self.changes[self.changes < 0]

    def __repr__(self) -> str:
        return describe(self)

    def figure(self, path: str | PathLike) -> None:
        """Draw the distribution of effects and write it as an image (needs the ``lab`` extra)."""
        draw(self, path)


def mutational_effects(
    key: jax.Array,
    loss_fn: Callable,
    params: Params,
    algorithm: Any = None,
    *,
    sigma: float | None = None,
    num_mutations: int = 1000,
    accuracy_fn: Callable | None = None,
    quantile: float = 0.0,
    level: float = 0.95,
    batch: Any = None,
    evaluation: Any = "auto",
) -> MutationalEffects:
    r"""Say how mutations change the loss: how many are beneficial, and how the effects of those are distributed.

    On a smooth loss of many curvatures ΔU is normal, and the share of beneficial mutations is Φ(−s/2), s the normalised mutation
    strength. The effects −ΔU of the beneficial ones are then what a normal variable exceeds s/2 by, in units of σ|∇U|. They are
    half-normal far from a minimum, on a linear loss exactly so, and not exponential as [K23] reads them: a generalised Pareto
    law fitted to 1000 half-normal effects has ξ = −0.27 without a threshold, and fitted to 1000 above their 90th or 99th
    percentile −0.13 or −0.08. ξ = 0 is reached at no finite threshold. ξ grows with s too: −0.11 at s = 4, which few survive.

    Parameters
    ----------
    key : a key; the same key gives the same mutations.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there is a batch; a scalar or per-example losses, which
        are compared example by example. As with ``jax.jit``, one function is one program.
    params : pytree, where to look.
    algorithm : whose σ and mutation are meant; or σ itself, for gaussian mutations [parameter].
    sigma : σ, if it is not the algorithm's [parameter].
    num_mutations : n.
    accuracy_fn : called like ``loss_fn``; returns the share of examples that are right, or for each whether it is.
    quantile : share of the beneficial effects that the threshold of the Pareto law leaves out.
    level : of the interval of its shape.
    batch : examples for ``loss_fn``.
    evaluation : ``mutagrad.executor(pool)`` for a loss that is ordinary Python.

    Returns
    -------
    MutationalEffects

    Raises
    ------
    ValueError : if an argument is outside its domain, or the loss is not finite at the params.

    Domain: any loss and any mutation; what s predicts holds for smooth losses of many curvatures, of which the excess tells. A
    batch is taken as given. Memory: a few models. Source: [F30], [K23] figure 4; theory.md 3 and 7; tested in
    tests/diagnostics/test_mutational_effects.py.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import mutational_effects
    >>> found = mutational_effects(jax.random.key(0), lambda x: jnp.sum(x**2) / 2, jnp.ones(100), 0.2)              # s = 2
    >>> abs(found.beneficial.value - 0.159) < 3 * found.beneficial.error                                             # Φ(−1)
    True
    """
    mutation, sigma = mutation_of(algorithm, sigma)
    num_mutations = check.count("num_mutations", num_mutations, 2)
    if not 0 <= quantile < 1:
        raise ValueError(f"quantile: got {quantile!r}; pass a share from 0 to below 1")
    if not 0 < level < 1:
        raise ValueError(f"level: got {level!r}; pass a share between 0 and 1, such as 0.95")
    params = mutation.checked(params)
    noise = jax.eval_shape(mutation.sample_fn, jax.random.key(0), params)
    found = evaluate_points(
        loss_fn,
        params,
        mutant_fn(mutation.sample_fn),
        (check.key(key), jnp.asarray(sigma, jnp.result_type(float))),
        num_mutations,
        noise=noise,
        batch=batch,
        evaluation=evaluation,
        score_fn=accuracy_fn,
    )
    changes = found.changes
    finite = changes[np.isfinite(changes)]
    strength = strength_of(finite, sigma)
    density = math.exp(-(strength.value**2) / 8) / math.sqrt(8 * math.pi)
    effects = -changes[changes < 0]
    threshold = float(np.quantile(effects, quantile)) if quantile > 0 and len(effects) else 0.0
    pareto = fit_pareto(effects, threshold, level, "loss")
    return MutationalEffects(
        loss=found.loss,
        sigma=sigma,
        changes=changes,
        beneficial=share_of(len(effects), num_mutations),
        neutral=share_of(int(np.sum(changes == 0)), num_mutations),
        failed=share_of(num_mutations - len(finite), num_mutations),
        strength=strength,
        predicted=Estimate(float(special.ndtr(-strength.value / 2)), density * strength.error),
        excess=_excess(finite, sigma),
        pareto=pareto,
        normal_shape=math.nan if pareto is None else normal_shape(strength.value, quantile, pareto.number),
        quantile=quantile,
        accuracy=found.score,
        accuracy_changes=found.score_changes,
        num_mutated=mutation.num_mutated(params),
        num_examples=found.num_examples,
    )


def _excess(changes: np.ndarray, sigma: float) -> Estimate:
    """Of the share of beneficial mutations over Φ(−s/2)."""
    if len(changes) < 2:
        return Estimate(math.nan, math.nan)

    def excess(rows: dict[str, np.ndarray]) -> np.ndarray:
        own = rows["changes"]
        return np.array([np.mean(own < 0) - special.ndtr(-strength_of(own, sigma).value / 2)])

    (value,), (error,) = jackknife(excess, {"changes": changes}, max(BLOCKS, min(len(changes), 200)))
    return Estimate(float(value), float(error))
