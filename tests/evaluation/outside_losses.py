"""Losses that fail in their own way in a worker, which imports this module; it needs no JAX."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np


def square(params):
    """No failure."""
    return float(np.sum(np.square(params)))


class Sometimes:
    """Fails at the calls that the names of files in a folder count, once each, in whatever process; else `square`.

    Parameters
    ----------
    folder : where calls are counted. what : "die", "hang", "raise", "nan" or "shape". which : the calls that fail, from 0.
    """

    def __init__(self, folder, what, which):
        self.folder, self.what, self.which = str(folder), what, set(which)

    def __call__(self, params):
        """The loss, or a failure."""
        call = self._number()
        if call in self.which:
            if self.what == "die":
                os.kill(os.getpid(), 9)
            if self.what == "hang":
                time.sleep(60)
            if self.what == "raise":
                raise ArithmeticError("outside")
            return np.nan if self.what == "nan" else np.zeros((2, 2))
        return square(params)

    def _number(self):
        number = 0
        while True:
            try:
                (Path(self.folder) / str(number)).touch(exist_ok=False)
                return number
            except FileExistsError:
                number += 1


def killer(params):
    """Ends its process wherever the first parameter is above 1."""
    if params[0] > 1:
        os._exit(3)
    return square(params)


def slow(params):
    """A tenth of a second."""
    time.sleep(0.1)
    return square(params)


def stuck(params):
    """A program that takes a minute wherever the first parameter is not 1."""
    if params[0] != 1:
        subprocess.run(["sleep", "60"], check=False)
    return square(params)


def forking(params):
    """Ends its process wherever the first parameter is not 1, and leaves one that holds what it held."""
    if params[0] != 1:
        if not os.fork():
            time.sleep(60)
        os._exit(4)
    return square(params)


def unspeakable(params):
    """Raises what cannot be put into words wherever the first parameter is not 1."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    if params[0] != 1:
        raise Mute
    return square(params)


def invert(params):
    return np.linalg.inv(np.zeros((2, 2)))


def through_a_library(params):
    return invert(params).sum() if params[0] != 1 else square(params)


def divide(params):
    return 1 / int(params[1] - params[1])


def through_a_helper(params):
    return divide(params) if params[0] != 1 else square(params)
