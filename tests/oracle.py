"""One generation of every algorithm in plain NumPy loops: slow, and no line shared with the library.

Chance comes in from outside: the noise of every offspring and the draws of the selection. Parameters are lists of
arrays, a loss is any number (already the mean over examples), and a failed loss is one that is not finite.

Every decision comes with its margin: how far the numbers that decided it are from deciding otherwise. A test that
compares winners with a library that computes in float32 asks that no margin is as small as a rounding error.
"""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np


def mutate(parent, noise, sigma):
    """x + σz on floating arrays, in float32 at least and rounded once; everything else as it is."""
    child = []
    for values, z in zip(parent, noise, strict=True):
        if values.dtype.kind != "f":
            child.append(values)
            continue
        wide = np.promote_types(values.dtype, np.float32).type
        child.append((values.astype(wide) + wide(sigma) * z.astype(wide)).astype(values.dtype))
    return child


@dataclass
class Decision:
    """Indices of the winners (−1 for a parent that stays) and the smallest distance to another decision."""

    winners: list
    margin: float = math.inf


def has_failed(loss):
    return not math.isfinite(loss)


def judge_one(loss, parent_loss, uniform, probability):
    """One offspring is accepted if the uniform draw is below ``probability(ΔU)``."""
    if has_failed(loss):
        return Decision([-1])
    if has_failed(parent_loss):
        return Decision([0])
    chance = probability(loss - parent_loss)
    # A draw from [0, 1) can never be confused with a certainty.
    margin = math.inf if chance in (0.0, 1.0) else abs(chance - uniform)
    return Decision([0 if uniform < chance else -1], margin)


def metropolis(beta):
    def probability(difference):
        return 1.0 if difference <= 0 else math.exp(-beta * difference)

    return probability


def greedy():
    return lambda difference: 1.0 if difference <= 0 else 0.0


def logistic(beta):
    return lambda difference: 1 / (1 + math.exp(beta * difference))


def fixation(beta, size, model):
    def probability(difference):
        advantage = -beta * difference * {"moran": 1, "wright_fisher": 2}[model]
        if advantage == 0:
            return 1 / size
        return (1 - math.exp(-advantage)) / (1 - math.exp(-size * advantage))

    return probability


def ranking(losses):
    """Offspring with a finite loss, best first, the earlier of two equals first."""
    return sorted((i for i, loss in enumerate(losses) if not has_failed(loss)), key=lambda i: (losses[i], i))


def gaps(losses, order, number):
    """Smallest nonzero gap between the first ``number`` ranks and the rank that follows each."""
    steps = [losses[b] - losses[a] for a, b in itertools.pairwise(order)][:number]
    return min((step for step in steps if step > 0), default=math.inf)


def elitist(losses, parent_loss):
    order = ranking(losses)
    if not order:
        return Decision([-1])
    best = order[0]
    if has_failed(parent_loss):
        return Decision([best], gaps(losses, order, 1))
    to_parent = abs(losses[best] - parent_loss) or math.inf
    wins = losses[best] <= parent_loss
    return Decision([best if wins else -1], min(to_parent, gaps(losses, order, 1)) if wins else to_parent)


def comma(losses):
    order = ranking(losses)
    return Decision([order[0]], gaps(losses, order, 1)) if order else Decision([-1])


def boltzmann(losses, parent_loss, gumbel, beta):
    """The largest of −βU + Gumbel noise, the parent last: a draw with probability ∝ e^{−βU}."""
    scores = []
    for index, loss in enumerate([*losses, parent_loss]):
        if not has_failed(loss):
            scores.append((-beta * loss + gumbel[index], index))
    if not scores:
        return Decision([-1])
    scores.sort(reverse=True)
    winner = scores[0][1]
    margin = scores[0][0] - scores[1][0] if len(scores) > 1 else math.inf
    return Decision([-1 if winner == len(losses) else winner], margin)


def truncation(losses, num_parents):
    """The best K; the best parent (−1) fills the places for which there is no finite loss."""
    order = ranking(losses)
    winners = (order + [-1] * num_parents)[:num_parents]
    return Decision(winners, gaps(losses, order, num_parents))


@dataclass
class Lineage:
    """Parents through the generations: ``advance`` makes offspring, evaluates them and lets ``decide`` choose.

    ``decide(losses, parent_loss) -> Decision``; ``parent_of`` names the parent of each offspring (all the first, unless
    given). Offspring and losses of the last generation stay for inspection.
    """

    parents: list
    sigma: float
    loss: callable
    offspring: list = field(default_factory=list)
    losses: list = field(default_factory=list)
    parent_losses: list = field(default_factory=list)

    def advance(self, noises, decide, parent_of=None):
        parent_of = parent_of if parent_of is not None else [0] * len(noises)
        self.offspring = [mutate(self.parents[p], z, self.sigma) for p, z in zip(parent_of, noises, strict=True)]
        self.losses = [self.loss(child) for child in self.offspring]
        self.parent_losses = [self.loss(parent) for parent in self.parents]
        decision = decide(self.losses, self.parent_losses[0])
        self.parents = [self.offspring[winner] if winner >= 0 else self.parents[0] for winner in decision.winners]
        return decision
