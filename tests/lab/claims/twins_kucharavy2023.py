"""Twins of the claims of Kucharavy et al. 2023."""

from collections.abc import Callable

import numpy as np
from twins import Twin, in_place, times

import mutagrad
from mutagrad.lab.claims.kucharavy2023 import (
    angles,
    archetypes,
    directions,
    effects,
    flatness,
    glimpses,
    minibatches,
    mixing,
    workers,
)
from mutagrad.lab.training import go_ea


def with_more_noise(right: Callable) -> Callable:
    """Angles of updates with a predicted cosine of 1.5 times the noise of single gradients."""

    def found(*arguments, **options):
        measured = right(*arguments, **options)
        batches = [
            one._replace(predicted=one.predicted._replace(value=(1.5 / one.predicted.value**2 - 0.5) ** -0.5))
            for one in measured.batches
        ]
        return measured._replace(batches=tuple(batches))

    return found


def with_straight_through(right: Callable) -> Callable:
    """Networks that read as hard attention does, with the gradient of soft attention."""
    return lambda job, data, key, mode: right(job, data, key, "straight_through" if mode == "hard" else mode)


def with_dropout_in_the_other(monkeypatch) -> None:
    """Plain networks trained with the dropout of robust ones, and robust ones without."""
    robust, plain = (archetypes.SIX[f"{kind} Narrow"] for kind in ("Robust", "Plain"))
    monkeypatch.setitem(archetypes.SIX, "Robust Narrow", plain)
    monkeypatch.setitem(archetypes.SIX, "Plain Narrow", robust)


def of_other_digits(right: Callable) -> Callable:
    """7 and 9 hidden in place of 8 and 9."""
    return lambda targets: np.where(np.isin(targets, (7, 9)), -1, targets).astype(targets.dtype)


TWINS = [
    Twin(
        "K23-9",
        "one dimension more",
        in_place(directions, "cap_angle", lambda right: lambda share, size: right(share, size + 1)),
        "share of directions within the angle that the formula gives 0.1 at, over 0.1, N up to 10",
        {"dims": (2, 3, 10, 100, 2000), "directions": 10_000},
    ),
    Twin(
        "K23-12",
        "mutations on a sphere",
        in_place(mutagrad.mutation, "ball", lambda right: mutagrad.mutation.sphere),
        "power of N",
        {"dims": (2, 3), "offspring": (16, 64, 256), "runs": 256, "large": 500, "large_runs": 100},
    ),
    Twin(
        "K23-13",
        "every beneficial mutation is fixed",
        in_place(mutagrad, "fixation", lambda right: lambda sigma, beta, size: mutagrad.greedy(sigma)),
        "share of moves to the larger of two effects, 3 to 1: s_j/Σ s_k, fixation",
        {"effect": 0.05, "runs": (2**17, 2**13, 2**13)},
    ),
    Twin(
        "K23-14",
        "the full loss is the sum of the minibatches",
        in_place(minibatches, "_progress", lambda right: lambda k: k * right(k)),
        "decrease of the full loss",
        {"size": 50, "mutations": 50_000},
    ),
    Twin(
        "K23-1",
        "an offspring at random",
        in_place(go_ea, "as_run", lambda right: lambda sigma, number: mutagrad.comma(sigma, 1)),
        "ln of generations of the source",
        {"images": 64, "generations": 150, "dropout_generations": 0, "every": 50},
    ),
    Twin(
        "K23-2",
        "gradients with 1.5 times the noise",
        in_place(angles, "update_angles", with_more_noise),
        "mean cosine of gradients of 32 images over 1/√(1 + TrC/(B|∇U|²)), at the start",
        {
            "images": 512,
            "train_images": 512,
            "test_images": 100,
            "epochs": (0, 1),
            "batch_sizes": (4, 32),
            "batches": (800, 800),
            "spreads": (0.21, 0.19),
            "seeds": 3,
        },
    ),
    Twin(
        "K23-7",
        "the share of beneficial mutations is Φ(−s)",
        lambda monkeypatch: monkeypatch.setattr(effects, "FACTOR", 1.0),
        "−Φ⁻¹(share of beneficial mutations) over s",
        {
            "train_images": 1000,
            "test_images": 100,
            "images": 30,
            "epochs": (4, 0),
            "rates": (0.05, 0.05),
            "starts": 3,
            "few": 10,
            "mutations": 1000,
        },
    ),
    Twin(
        "K23-8",
        "the mean of k is nearer to the slope like k^0.55",
        in_place(mixing, "_power", times(1.1)),
        "power of k by which the cosine",
        {
            "images": 20,
            "mutations": 400,
            "seeds": 6,
            "numbers": (1, 4, 16),
            "tests": (100, 4),
        },
    ),
    Twin(
        "K23-10",
        "losses cross in half precision",
        in_place(workers, "LOSS", lambda right: np.dtype(np.float16)),
        "recombination: generations whose new parent every worker has",
        {"widths": (8,), "width": 8, "offspring": (15,), "generations": 8, "counted_generations": 2, "processes": 0},
    ),
    Twin(
        "K23-11",
        "the gradient of the weights passes through the argmax",
        in_place(glimpses, "network", with_straight_through),
        "largest |gradient|",
        {"images": 200, "copies": 1, "keys": 2, "generations": 20, "epochs": 1},
    ),
    Twin(
        "K23-3",
        "every population is of twenty",
        in_place(go_ea, "as_run", lambda right: lambda sigma, number: right(sigma, 20)),
        "speed with M = 80 over that with M = 5, over G",
        {"images": 32, "generations": 40, "seeds": 8},
    ),
    Twin(
        "K23-4",
        "the rise of a parabola is 5/8 of r times its slope",
        in_place(flatness, "parabola", times(1.25)),
        "rise at r = 0.1 over r/2 times the slope there",
        {"archetypes": ("Plain Narrow",), "images": 500, "test_images": 200, "epochs": 6, "profile_images": 200},
    ),
    Twin(
        "K23-5",
        "plain networks have the dropout, and robust ones have none",
        with_dropout_in_the_other,
        "share of its accuracy that Robust Narrow keeps at 50 %, less that of Plain Narrow",
        {"archetypes": ("Plain Narrow", "Robust Narrow"), "images": 1000, "test_images": 300, "epochs": 8},
    ),
    Twin(
        "K23-6",
        "digits 7 and 9 are hidden",
        in_place(archetypes, "hide", of_other_digits),
        "share of images of the hidden digits that are seen as such",
        {"archetypes": ("Plain Narrow",), "images": 500, "test_images": 200, "epochs": 6},
    ),
]
