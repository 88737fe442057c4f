"""The laws that tie selection to gradient descent; it reads algorithms and is read by none of them."""

from mutagrad.theory.dynamics import Langevin, equivalent_gradient_descent, langevin, learning_rate
from mutagrad.theory.laws import (
    Diffusion,
    acceptance_rate,
    diffusion,
    drift,
    mean_loss_rate,
    mean_step,
)
from mutagrad.theory.progress import (
    best_of_mean,
    best_of_moment,
    expected_gain,
    normalized_mutation_strength,
    optimal_strength,
    success_rate,
)

__all__ = [
    "Diffusion",
    "Langevin",
    "acceptance_rate",
    "best_of_mean",
    "best_of_moment",
    "diffusion",
    "drift",
    "equivalent_gradient_descent",
    "expected_gain",
    "langevin",
    "learning_rate",
    "mean_loss_rate",
    "mean_step",
    "normalized_mutation_strength",
    "optimal_strength",
    "success_rate",
]
