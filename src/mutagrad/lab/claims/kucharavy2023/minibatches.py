"""K23-14: k minibatches of mutually orthogonal gradients, and mutations that improve one of them."""

import math
from typing import Any

import numpy as np

from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_AT_ONCE = 2**22


def _valid(k: int) -> float:
    """Chance that a mutation improves at least one of k minibatches of orthogonal gradients."""
    return 1 - 2.0**-k


def _progress(k: int) -> float:
    """Decrease of the full loss per mutation, kept if it improves at least one of k, over that if it improves the full loss.

    The full loss is the mean over the k. Each has a change of z_b, normal and independent. What is lost by not keeping are
    the mutations that improve none: E[z̄ 1(some z_b < 0)] = −E[z̄ 1(all z_b > 0)] = −√(2/π) 2⁻ᵏ. By the full loss it is
    −1/√(2πk).
    """
    return 2 * 2.0**-k * math.sqrt(k)


def expect_validity(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-14."""
    number, stated = settings["mutations"], []
    for k in settings["batches"]:
        error = math.sqrt((1 - _valid(k)) / _valid(k) / number)
        why = f"six errors of {number:,} mutations about 1 − 2⁻ᵏ, which signs of independent normals have exactly"
        stated.append(near(_name("valid", k), 1, PLANNED * error, "error", why))
    for k in settings["batches"][1:]:
        error = k * math.sqrt(((1 - _valid(k)) / _valid(k) + 1) / number)
        why = "the hypothesis itself, k, and six errors"
        stated.append(near(_name("samples", k), k, PLANNED * error, "source", why))
    for k in settings["batches"][1:]:
        why = "six errors about 2√k 2⁻ᵏ, from the mean of z over the mutations that improve none"
        stated.append(
            near(_name("progress", k), _progress(k), PLANNED * _progress_error(k, number), "error", why, ours=True)
        )
    return stated


def _progress_error(k: int, number: int) -> float:
    """Of the mean of z̄ over the mutations that improve none, whose square has the mean 2⁻ᵏ(2/π + (1 − 2/π)/k) there."""
    return math.sqrt(2.0**-k * (2 / math.pi + (1 - 2 / math.pi) / k) / number) * math.sqrt(2 * math.pi * k)


def _name(what: str, k: int) -> str:
    return {
        "valid": f"share of mutations that improve at least one of {k} minibatches, over 1 − 2⁻ᵏ",
        "samples": f"samples for a mutation that improves one of 1, over those for one of {k}",
        "progress": f"decrease of the full loss a sample, kept if better on one of {k}, over that if better on all the data",
    }[what]


def run_validity(job: Job) -> Outcome:
    """Changes of k linear losses of orthogonal gradients by Gaussian mutations of N parameters."""
    import xarray

    random, size, number = np.random.default_rng(job["key"]), job["size"], job["mutations"]
    batches = job["batches"]
    valid, kept, full = (np.empty((2, len(batches))) for _ in range(3))
    for i, k in enumerate(batches):
        gradients, _ = np.linalg.qr(random.standard_normal((size, k)))
        changes, at_once = np.empty((number, k)), _AT_ONCE // size
        for first in range(0, number, at_once):
            mutations = random.standard_normal((min(at_once, number - first), size), np.float32)
            changes[first : first + at_once] = mutations @ gradients.astype(np.float32)
        mean, improves = changes.mean(1), (changes < 0).any(1)
        # What is kept is −z̄ less that of the mutations that improve none; −z̄ itself has the mean 0, and only adds noise.
        for at, values in ((valid, improves), (kept, mean * ~improves), (full, np.maximum(-mean, 0))):
            at[:, i] = values.mean(), values.std(ddof=1) / math.sqrt(number)
        job.progress((i + 1) / len(batches))
    # Over what is exact by the full loss, so that only the numerator has an error.
    exact = 1 / np.sqrt(2 * np.pi * np.array(batches))
    found = {}
    for i, k in enumerate(batches):
        found[_name("valid", k)] = tuple(valid[:, i] / _valid(k))
        if k > 1:
            ratio = valid[0, i] / valid[0, 0]
            found[_name("samples", k)] = (ratio, ratio * math.hypot(*(valid[1, [i, 0]] / valid[0, [i, 0]])))
            found[_name("progress", k)] = tuple(kept[:, i] / exact[i])
    data = xarray.Dataset(
        {name: (("what", "batches"), values) for name, values in (("valid", valid), ("kept", kept), ("full", full))},
        coords={"what": ["mean", "error"], "batches": list(batches)},
    )
    return Outcome(found, data, draw_validity)


def draw_validity(data: Any) -> Any:
    """Samples for a valid mutation, and progress a sample, against k."""
    figure, (left, right) = panels(2)
    k = data.batches.values
    (valid, valid_error), (kept, kept_error), (full, full_error) = (
        data[one].values for one in ("valid", "kept", "full")
    )
    left.errorbar(k, valid / valid[0], 3 * valid_error / valid[0], fmt="o", markersize=4, label="measured, ±3 errors")
    every = np.arange(1, k[-1] + 1)
    left.plot(every, every, "k--", linewidth=1, label="k, the hypothesis")
    left.plot(every, 2 * (1 - 2.0**-every), color="C0", linewidth=1, label="2 (1 − 2⁻ᵏ)")
    left.set(xlabel="minibatches k", ylabel="samples at k = 1 over samples at k", ylim=(0, 8))
    left.legend(frameon=False, fontsize=8)
    right.errorbar(k, kept, 3 * kept_error, fmt="o", markersize=4, color="C0", label="kept if better on one of k")
    right.errorbar(k, full, 3 * full_error, fmt="s", markersize=4, color="C1", label="kept if better on all the data")
    right.plot(every, math.sqrt(2 / math.pi) * 2.0**-every, color="C0", linewidth=1)
    right.plot(every, 1 / np.sqrt(2 * math.pi * every), color="C1", linewidth=1)
    right.set(
        xlabel="minibatches k", ylabel="decrease of the full loss a sample [σ|∇U_b|]", yscale="log", ylim=(1e-4, 1)
    )
    right.legend(frameon=False, fontsize=8)
    return figure


_VALIDITY = {
    "quick": {"size": 300, "batches": (1, 2, 3, 4, 6, 8), "mutations": 400_000, "key": 231417},
    "paper": {"size": 9854, "batches": (1, 2, 3, 4, 6, 8, 12), "mutations": 2_000_000, "key": 231417},
}

CLAIMS = [
    Claim(
        "K23-14",
        "kucharavy2023",
        "hypothesis",
        "with k minibatches of orthogonal gradients the samples for a valid update fall by k; P: they fall by 2 (1 − 2⁻ᵏ) at "
        "most, and progress on all the data falls by 2√k 2⁻ᵏ",
        _VALIDITY,
        run_validity,
        lambda settings: Needs(settings["mutations"] * len(settings["batches"]) * settings["size"] / 300, 1e9, 1e6),
        "N = {size}, {mutations} Gaussian mutations for each k, small enough to see the slope alone",
        expect_validity,
    ),
]
