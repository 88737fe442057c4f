"""The laws that tie selection to gradient descent; it reads algorithms and is read by none of them."""

from mutagrad.theory.progress import (
    best_of_mean,
    best_of_moment,
    expected_gain,
    normalized_mutation_strength,
    optimal_strength,
    success_rate,
)

__all__ = [
    "best_of_mean",
    "best_of_moment",
    "expected_gain",
    "normalized_mutation_strength",
    "optimal_strength",
    "success_rate",
]
