"""The laws that tie selection to gradient descent; it reads algorithms and is read by none of them."""

from mutagrad.estimate import Estimate
from mutagrad.theory import population
from mutagrad.theory.curvature import hessian_trace, largest_eigenvalue
from mutagrad.theory.dynamics import Langevin, equivalent_gradient_descent, langevin, learning_rate
from mutagrad.theory.laws import Diffusion, acceptance_rate, diffusion, drift, mean_loss_rate, mean_step
from mutagrad.theory.progress import (
    best_of_mean,
    best_of_moment,
    expected_gain,
    normalized_mutation_strength,
    optimal_strength,
    success_rate,
)
from mutagrad.theory.ranks import EffectiveRank, effective_rank, participation_ratio, stable_rank
from mutagrad.theory.recombination import RecombinationMoments, recombination_gain, recombination_moments
from mutagrad.theory.rejection import examples_evaluated
from mutagrad.theory.sites import mutation_probability, site_drift
from mutagrad.theory.spectrum import PowerLaw, Spectrum, fit_power_law, hessian_spectrum
from mutagrad.theory.steady import steady_state_gain

__all__ = [
    "Diffusion",
    "EffectiveRank",
    "Estimate",
    "Langevin",
    "PowerLaw",
    "RecombinationMoments",
    "Spectrum",
    "acceptance_rate",
    "best_of_mean",
    "best_of_moment",
    "diffusion",
    "drift",
    "effective_rank",
    "equivalent_gradient_descent",
    "examples_evaluated",
    "expected_gain",
    "fit_power_law",
    "hessian_spectrum",
    "hessian_trace",
    "langevin",
    "largest_eigenvalue",
    "learning_rate",
    "mean_loss_rate",
    "mean_step",
    "mutation_probability",
    "normalized_mutation_strength",
    "optimal_strength",
    "participation_ratio",
    "population",
    "recombination_gain",
    "recombination_moments",
    "site_drift",
    "stable_rank",
    "steady_state_gain",
    "success_rate",
]
