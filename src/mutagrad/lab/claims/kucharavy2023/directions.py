"""K23-9: the share of directions within an angle of a given one, by formula and by sampling."""

import math
from typing import Any

import numpy as np

from mutagrad.diagnostics.landscape import cap_angle, cap_probability
from mutagrad.lab.claims.checks import PLANNED, Expected, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_GROUPS = {"N up to 10": (0, 10), "N from 11 to 1,000": (11, 1000), "N above 1,000": (1001, math.inf)}
_AT_ONCE = 2**24
"""Normal numbers drawn at a time."""


def _members(settings: dict[str, Any]) -> dict[str, list[int]]:
    """Positions in the list of dimensions, by group."""
    return {
        name: [i for i, size in enumerate(settings["dims"]) if low <= size <= high]
        for name, (low, high) in _GROUPS.items()
    }


def expect_caps(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-9."""
    stated = []
    for name, members in _members(settings).items():
        for share in settings["shares"]:
            error = math.sqrt((1 - share) / share / settings["directions"] / len(members))
            why = f"six errors of {settings['directions']:,} directions in each of {len(members)} N"
            stated.append(near(_name(share, name), 1, PLANNED * error, "error", why))
    return stated


def _name(share: float, group: str) -> str:
    return f"share of directions within the angle that the formula gives {share:g} at, over {share:g}, {group}"


def run_caps(job: Job) -> Outcome:
    """Angles of uniform directions of N dimensions to the first axis, drawn as vectors of N normal numbers."""
    import xarray

    number, random = job["directions"], np.random.default_rng(job["key"])
    cosines = np.empty((len(job["dims"]), number))
    for i, size in enumerate(job["dims"]):
        at_once = max(1, min(number, _AT_ONCE // size))
        for first in range(0, number, at_once):
            vectors = random.standard_normal((min(at_once, number - first), size), np.float32)
            cosines[i, first : first + at_once] = vectors[:, 0] / np.linalg.norm(vectors, axis=1)
        job.progress(sum(job["dims"][: i + 1]) / sum(job["dims"]))
    angles = np.arccos(np.clip(cosines, -1, 1))
    found = {}
    for share in job["shares"]:
        limits = np.array([float(cap_angle(share, size)) for size in job["dims"]])
        inside = np.mean(angles <= limits[:, None], axis=1)
        for name, members in _members(job.settings).items():
            mean = inside[members].mean()
            error = math.sqrt(np.sum(inside[members] * (1 - inside[members])) / number) / len(members)
            found[_name(share, name)] = (mean / share, error / share)
    degrees = np.array(job["degrees"])
    counts = np.stack([np.mean(angles <= math.radians(one), axis=1) for one in degrees])
    data = xarray.Dataset(
        {"share": (("angle", "size"), counts)},
        coords={"angle": degrees, "size": list(job["dims"])},
        attrs={"number": number},
    )
    return Outcome(found, data, draw_caps)


def draw_caps(data: Any) -> Any:
    """Share of directions against N for some angles: the layout of Fig. 6."""
    figure, (axis,) = panels(1, width=7)
    every = np.unique(np.round(np.geomspace(2, 10_000, 200)).astype(int))
    for colour, angle in enumerate(data.angle.values):
        law = [float(cap_probability(math.radians(angle), int(size))) for size in every]
        axis.plot(every, law, color=f"C{colour}", label=f"within {angle:g}°")
        share = data.share.sel(angle=angle).values
        seen = share * data.attrs["number"] >= 10
        error = 3 * np.sqrt(share * (1 - share) / data.attrs["number"])
        axis.errorbar(data["size"].values[seen], share[seen], error[seen], fmt="o", markersize=4, color=f"C{colour}")
    axis.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="share of directions", ylim=(1e-6, 1))
    axis.set_title("lines: formula; dots: sampled, ±3 errors", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    return figure


_CAPS = {
    "quick": {
        "dims": (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 3000, 9854), "shares": (0.02, 0.1, 0.3), "directions": 40_000,
        "degrees": (30, 60, 80, 88), "key": 23917,
    },
    "paper": {
        "dims": (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 3000, 9854), "shares": (0.002, 0.02, 0.1, 0.3),
        "directions": 1_000_000, "degrees": (30, 60, 80, 88), "key": 23917,
    },
}  # fmt: skip

CLAIMS = [
    Claim(
        "K23-9",
        "kucharavy2023",
        "Fig. 6",
        "the share of directions within an angle α of a given one is ½ I(sin²α; (N − 1)/2, ½), for N from 2 to 10⁴",
        _CAPS,
        run_caps,
        lambda settings: Needs(settings["directions"] * len(settings["dims"]), 1e9, 1e6),
        "{directions} directions for each N, as vectors of N normal numbers",
        expect_caps,
    ),
]
