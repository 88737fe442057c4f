"""Losses that fail in their own way in a worker, which imports this module; it needs no JAX."""

import os
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
