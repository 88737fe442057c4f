"""Settings given from Python: what is of another kind is refused in one line, and what is kept is plain Python."""

import json
import math
import pathlib

import numpy as np
import pytest

from mutagrad.lab.training.options import TrainConfig, from_saved, to_saved


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widths": 32}, "widths: got 32; pass whole numbers such as (32,) or (64, 32)"),
        ({"widths": "32"}, "widths: got '32'; pass whole numbers"),
        ({"widths": (1.5,)}, "widths: got (1.5,); pass whole numbers"),
        ({"sigma": True}, "sigma: got True; pass 'auto' or a positive number"),
        ({"sigma": None}, "sigma: got None; pass 'auto'"),
        ({"num_offspring": 2.0}, "num_offspring: got 2.0; pass a whole number"),
        ({"num_offspring": True}, "num_offspring: got True; pass a whole number"),
        ({"seconds": "60"}, "seconds: got '60'; pass a number or None"),
        ({"seconds": 10**400}, "…; pass a number or None"),
        ({"standardize": 1}, "standardize: got 1; pass True or False or None"),
        ({"data": None}, "data: got None; pass a text"),
        ({"data": np.zeros((30, 30))}, "data: got array("),
        ({"out": b"run"}, "out: got b'run'; pass a text or None"),
        ({"target": [0.9]}, "target: got [0.9]; pass a number or None"),
    ],
)
def test_other_kinds_are_refused(settings, words):
    with pytest.raises(ValueError) as caught:
        TrainConfig(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_kept_is_plain():
    config = TrainConfig(
        widths=[np.int64(3), 4], sigma=np.float32(0.5), seconds=3, standardize=np.bool_(True), out=pathlib.Path("x")
    )
    assert config == TrainConfig(widths=(3, 4), sigma=0.5, seconds=3.0, standardize=True, out="x")
    assert from_saved(json.loads(json.dumps(to_saved(config)))) == config
    assert TrainConfig(beta=math.inf, sigma="auto").sigma == "auto"
