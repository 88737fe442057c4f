"""K23-4 to K23-6: flatness, robustness and transfer of the archetypes (Fig. 8 to 14, 3 and 15).

The three are about the same networks. They run from one module, so that what one has trained the others use.
"""

from typing import Any

import numpy as np

from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023.archetypes import SIX, revealed, trainings
from mutagrad.lab.claims.kucharavy2023.flatness import (
    DISTANCES,
    HALFWAY,
    draw_flatness,
    expect_flatness,
    found_flatness,
    profiles,
)
from mutagrad.lab.claims.kucharavy2023.robustness import (
    LEVELS,
    accuracies,
    draw_robustness,
    expect_robustness,
    found_robustness,
)
from mutagrad.lab.claims.kucharavy2023.transfer import draw_transfer, expect_transfer, found_transfer, seen

__all__ = ["CLAIMS"]


def run_flatness(job: Job) -> Outcome:
    """Profiles of networks after half and after all of their training, along the same directions."""
    import xarray

    names = job["archetypes"]
    shape = (job["seeds"], len(names), len(DISTANCES))
    changes, slopes, half = np.empty((*shape[:2], 2, shape[2])), np.empty(shape), np.full(shape, np.nan)
    losses, curvatures, numbers = np.empty(shape[:2]), np.empty(shape[:2]), []
    for i, networks in enumerate(trainings(job)):
        for j, name in enumerate(names):
            one = networks[name]
            found = profiles(one, one.whole, DISTANCES, job["directions"], job["profile_images"])
            changes[i, j], losses[i, j] = found.changes.mean(0), found.loss
            slopes[i, j] = (found.slopes[:, 1] - found.slopes[:, 0]).mean(0) / 2
            curvatures[i, j] = found.curvatures.mean()
            if name in HALFWAY:
                half[i, j] = profiles(one, one.half, DISTANCES, job["directions"], job["profile_images"]).rises
        numbers.append(one.seed)
    data = xarray.Dataset(
        {
            "profile": (("seed", "archetype", "side", "distance"), changes),
            "rise": (("seed", "archetype", "distance"), changes.mean(2)),
            "slope": (("seed", "archetype", "distance"), slopes),
            "half": (("seed", "archetype", "distance"), half),
            "loss": (("seed", "archetype"), losses),
            "curvature": (("seed", "archetype"), curvatures),
        },
        coords={"seed": numbers, "archetype": list(names), "distance": list(DISTANCES)},
    )
    return Outcome(found_flatness(job.settings, data), data, draw_flatness)


def run_robustness(job: Job) -> Outcome:
    """Accuracies of the networks where inputs and features are dropped."""
    import xarray

    names, found, numbers = job["archetypes"], [], []
    for networks in trainings(job):
        found.append([accuracies(networks[name]) for name in names])
        numbers.append(networks[names[0]].seed)
    data = xarray.Dataset(
        {"accuracy": (("seed", "archetype", "level"), np.array(found))},
        coords={"seed": numbers, "archetype": list(names), "level": [0.0, *LEVELS]},
    )
    return Outcome(found_robustness(job.settings, data), data, draw_robustness)


def run_transfer(job: Job) -> Outcome:
    """Accuracies of the networks while they learn the hidden digits too."""
    import xarray

    names, found, shares, numbers = job["archetypes"], [], [], []
    for networks in trainings(job):
        shares.append([seen(networks[name]) for name in names])
        found.append([100 * revealed(job, networks[name]) for name in names])
        numbers.append(networks[names[0]].seed)
    visible, right = np.moveaxis(np.array(shares), -1, 0)
    data = xarray.Dataset(
        {
            "accuracy": (("seed", "archetype", "epoch"), np.array(found)),
            "visible": (("seed", "archetype"), visible),
            "right": (("seed", "archetype"), right),
        },
        coords={"seed": numbers, "archetype": list(names), "epoch": np.arange(job["transfer_epochs"] + 1)},
    )
    return Outcome(found_transfer(job.settings, data), data, draw_transfer)


# Learning rate times steps is the source's: 15 times as large for a fifteenth of the images.
_NETWORKS = {
    "quick": {
        "archetypes": tuple(SIX), "images": 4000, "test_images": 1000, "epochs": 10, "learning_rate": 0.03, "seeds": 8,
        "key": 23456,
    },
    "paper": {
        "archetypes": tuple(SIX), "images": 60_000, "test_images": 10_000, "epochs": 10, "learning_rate": 0.002, "seeds": 5,
        "key": 23456,
    },
}  # fmt: skip
_FLATNESS = {
    "quick": _NETWORKS["quick"] | {"directions": 5, "profile_images": 200},
    "paper": _NETWORKS["paper"] | {"directions": 5, "profile_images": 10_000},
}
_TRANSFER = {scale: settings | {"transfer_epochs": 3} for scale, settings in _NETWORKS.items()}
_CAPTION = "{seeds} trainings of each ConvNet, {epochs} epochs of {images} images, 8 and 9 hidden, rate {learning_rate}"


def _needs(settings: dict[str, Any]) -> Needs:
    number = settings["seeds"] * len(settings["archetypes"])
    trained = 3 * settings["images"] * (settings["epochs"] + settings.get("transfer_epochs", 0))
    measured = 4 * settings["test_images"] + 4 * settings.get("directions", 0) * settings.get(
        "profile_images", 0
    ) * len(DISTANCES)
    return Needs(number * (trained + measured) / 100, 3e9, 1e8)


CLAIMS = [
    Claim(
        "K23-4",
        "kucharavy2023",
        "Fig. 8 to 14",
        "Robust Wide lies in a flatter minimum than Brittle Wide, and that in a flatter one than Brittle Narrow: dropout, width "
        "and small batches flatten, the length of training does not; P: near the minimum profiles are parabolas of its curvature",
        _FLATNESS,
        run_flatness,
        _needs,
        _CAPTION + "; {directions} filter-normalised directions",
        expect_flatness,
    ),
    Claim(
        "K23-5",
        "kucharavy2023",
        "Fig. 3",
        "dropout of inputs and features takes little from Robust Wide, more from Brittle Wide and most from Brittle Narrow; "
        "P: that Robust Wide was trained with it is half of the reason, and batches of 4 are the other half",
        _NETWORKS,
        run_robustness,
        _needs,
        _CAPTION,
        expect_robustness,
    ),
    Claim(
        "K23-6",
        "kucharavy2023",
        "Fig. 15",
        "with two digits revealed after training Robust Wide learns them faster than Brittle Wide, and that faster than Brittle "
        "Narrow; P: by the steps of small batches, not by dropout",
        _TRANSFER,
        run_transfer,
        _needs,
        _CAPTION + "; {transfer_epochs} with them",
        expect_transfer,
    ),
]  # fmt: skip
