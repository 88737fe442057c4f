"""Mutation densities, each scaled to unit variance per parameter, so that σ means the same for all of them.

A density is a `Mutation`: ``sample_fn(key, params)`` draws the noise of one offspring. The noise of each leaf comes from
a stream of its own. Nothing is stored: the same key makes the same mutation again.
"""

from mutagrad.mutation.composed import masked, scaled
from mutagrad.mutation.densities import ball, gaussian, rademacher, sphere, student_t
from mutagrad.mutation.domains import Categories, bounded, categories, discrete
from mutagrad.mutation.low_rank import low_rank

__all__ = [
    "Categories",
    "ball",
    "bounded",
    "categories",
    "discrete",
    "gaussian",
    "low_rank",
    "masked",
    "rademacher",
    "scaled",
    "sphere",
    "student_t",
]
