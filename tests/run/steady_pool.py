"""A pool whose evaluations end at random, and two losses: what tests of a steady state share."""

import random
import threading
import time
from concurrent.futures import Executor, Future

import jax
import numpy as np

KEY = jax.random.key(3)


class Shuffled(Executor):
    """So many at a time, of which a random one ends next; it notes who was born when, and who ended when."""

    def __init__(self, number, seed, total, in_order=False):
        self.number, self.random, self.in_order, self.total = number, random.Random(seed), in_order, total
        self.pending, self.born, self.order, self.lock = [], [], [], threading.Lock()
        self.is_over = False
        threading.Thread(target=self._drain, daemon=True).start()

    def submit(self, own, candidates):
        future: Future = Future()
        with self.lock:
            self.pending.append((len(self.born), own, candidates, future))
            self.born.append((len(self.order), candidates[0]))
            if len(self.pending) == self.number:
                self._end_one()
        return future

    def _end_one(self):
        place = 0 if self.in_order else self.random.randrange(len(self.pending))
        index, own, candidates, future = self.pending.pop(place)
        self.order.append(index)
        future.set_result(own(candidates))

    def _drain(self):
        while not self.is_over:
            time.sleep(0.002)
            with self.lock:
                # At the start and at the end there are fewer than go at a time.
                if self.pending and len(self.born) in (2, self.total):
                    self._end_one()


def slope(params):
    return float(params["x"][0])


def quadratic(params):
    return float(np.sum(np.square(params["x"])))
