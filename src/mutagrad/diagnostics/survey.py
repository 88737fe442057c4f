"""A ladder of σ around the best one: which kind of loss it is, and slope and curvature without its roughness or noise."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mutagrad import check
from mutagrad.diagnostics.kind import Fit, LossKind, Rung, kind_of
from mutagrad.diagnostics.probes import CHUNK, Pairs, Prober, landscape
from mutagrad.diagnostics.regime import Regime
from mutagrad.mutation import gaussian
from mutagrad.types import Mutation, Params

__all__ = ["Survey", "loss_kind", "smoothed", "survey"]

_DOWN = 3
"""Decades below the first σ that are looked at."""
_UP = 4
"""Half decades above it, where the loss is not smooth."""
_FROM_ONE = 30.0
"""σ up to which discrete params are looked at, in units of that of one mutation a mutant."""
_SHOWN = 0.5
"""Share of slope in the variance of a mutant's loss from which on a best σ is given."""


class Survey(NamedTuple):
    """What was found on a ladder: the kind, the pairs of each σ, and the fit to them (``None`` where there is none)."""

    kind: LossKind
    rungs: list[Rung]
    fit: Fit | None


def survey(prober: Prober, center: float, asked: float | None, number: int) -> Survey:
    """Evaluate pairs of mutations over three decades below a σ and, unless the loss is smooth there, two above it.

    Parameters
    ----------
    prober : of the loss. center : where the ladder begins. asked : the σ where the share of signal is wanted, if it is
        another one. number : of pairs for each σ.
    """
    smallest = prober.smallest_sigma
    if prober.mutates_from > center * 10.0**-_DOWN:
        # Discrete params have no smaller mutation than one: the ladder begins there.
        center = min(max(center, _FROM_ONE * smallest), prober.largest_sigma)
        scales = np.geomspace(center, smallest, _DOWN + 1).tolist()
    elif center / 10 < smallest < center / 3:
        # Of 16-bit params a decade may be all there is.
        scales = np.geomspace(center, smallest, _DOWN + 1).tolist()
    else:
        scales = [center * 10.0**-step for step in range(_DOWN + 1)]
    if asked is not None and not scales[-1] <= asked <= center:
        scales.append(asked)
    # Of a σ that is lost in the digits of the params there is nothing to see but that.
    rungs = [prober.rung(scale, number) for scale in scales if scale >= smallest] or [prober.rung(center, number)]
    if all(one.is_lost for one in rungs):
        raise ValueError(
            f"loss_fn: got no finite loss of a mutant, from σ = {rungs[-1].sigma:.2g} to {center:.2g}; check the loss around the "
            "params"
        )
    at = center if asked is None else asked

    def look(rungs: list[Rung]) -> tuple[LossKind, Fit | None]:
        return kind_of(rungs, prober.rounding, at, prober.digits, prober.places, prober.mutates_from > 0)

    kind, fit = look(rungs)
    if prober.mutates_from == 0 and rungs[-1].sigma < smallest and kind.name == "flat":
        kind = kind._replace(name="rounding")
    if kind.name not in ("smooth", "flat", "failing") and rungs[-1].sigma >= smallest:
        # Twice the pairs, since roughness and noise are other ones along each direction.
        rungs = [_joined(one, prober.rung(one.sigma, number, number)) for one in rungs]
        kind, fit = look(rungs)
        is_rounding = kind.name == "rounding"
        between = [center * 10.0 ** -(step - 0.5) for step in range(1, _DOWN + 1)]
        above = [] if prober.mutates_from > 0 else [center * 10.0 ** (step / 2) for step in range(1, _UP + 1)]
        # A search that noise led far away has left out what is near the σ asked about.
        is_far = asked is not None and 10 * asked < center * 10.0**-_DOWN
        near = [asked * 10.0 ** (step / 2) for step in range(1, _UP)] if asked is not None and is_far else []
        for scale in near + between + above:
            if scale >= smallest and (kind.name not in ("smooth", "noise") or scale > center or scale in near):
                rungs.append(prober.rung(scale, 2 * number))
                kind, fit = look(rungs)
        if is_rounding and kind.name == "minimum":
            # Far above, curvature hides any slope.
            kind = kind._replace(name="rounding")
    share, first = prober.failures()
    return Survey(kind._replace(failed=share, fails_from=first, num_pairs=kind.num_pairs or number), rungs, fit)


def loss_kind(
    key: jax.Array,
    loss_fn: Callable,
    params: Params,
    sigma: float,
    *,
    mutation: Mutation | None = None,
    batch: Any = None,
    num_pairs: int = 32,
) -> LossKind:
    """Which kind of loss mutations of a σ meet: what `mutagrad.diagnose` finds of it, without the rest.

    Parameters
    ----------
    key, loss_fn, params, batch, num_pairs : as for `mutagrad.diagnose`.
    sigma : the scale from which three decades are looked at [parameter].
    mutation : density; gaussian unless given.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics import loss_kind
    >>> loss_kind(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(100), 0.1).name
    'smooth'
    """
    num_pairs, sigma = check.count("num_pairs", num_pairs, CHUNK), float(check.scale("sigma", sigma))
    prober = Prober(check.key(key), loss_fn, params, gaussian() if mutation is None else mutation, batch)
    return survey(prober, sigma, None, max(2 * CHUNK, num_pairs // 2)).kind


def _joined(one: Rung, other: Rung) -> Rung:
    odd, even, again = (np.concatenate(pair) for pair in zip(one[1:4], other[1:4], strict=True))
    return Rung(one.sigma, odd, even, again, one.is_lost and other.is_lost)


def smoothed(prober: Prober, found: Survey, target: float, number: int) -> Regime | None:
    """What pairs at the best σ of the loss without its roughness or noise say, these taken out of them.

    The parent was chosen for its luck ℓσ^{p/2}: by that much mutants are worse in the mean than the parabola of ½σ²TrH.

    Parameters
    ----------
    prober : of the loss. found : on its ladder. target : the best s. number : of pairs.

    Returns
    -------
    Regime; ``None`` where slope or curvature is not told from the rest, or the slope has drowned at that σ.
    """
    kind, fit = found.kind, found.fit
    if fit is None or not kind.has_slope:
        return None
    point = int(np.argmax(fit.log_likelihood))
    exponent, slope = float(fit.exponent[point]), float(fit.slope[point])
    rungs = [one for one in found.rungs if one.sigma <= 1.01 * fit.largest and len(one.even) > 3]
    sigmas = np.array([one.sigma for one in rungs])
    means = np.array([one.even.mean() for one in rungs])
    errors = np.array([one.even.std(ddof=1) / math.sqrt(len(one.even)) for one in rungs])
    errors = np.maximum(errors, 1e-6 * np.abs(means).max())
    if not errors.min() > 0:
        return None
    terms = np.stack([sigmas ** (exponent / 2), sigmas**2 / 2], axis=1) / errors[:, None]
    lengths = np.linalg.norm(terms, axis=0)
    covariance = np.linalg.pinv((terms / lengths).T @ (terms / lengths)) / np.outer(lengths, lengths)
    luck, trace = covariance @ terms.T @ (means / errors)
    if slope <= 0 or trace <= 2 * math.sqrt(covariance[1, 1]):
        return None
    sigma = target * math.sqrt(slope) / trace
    share = fit.signal(sigma).value
    if share < _SHOWN:
        return None
    pairs = prober.pairs(sigma, number)
    if len(pairs.odd) < 4:
        return None
    kept = Pairs(sigma, math.sqrt(share) * pairs.odd, pairs.even - luck * sigma ** (exponent / 2), pairs.noise)
    return landscape(kept, prober.num_examples)
