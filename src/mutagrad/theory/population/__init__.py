"""Population genetics in the words of gradient descent: fixation, diversity, response to selection, learning rates."""

from mutagrad.theory.population.diversity import (
    equilibrium_heterozygosity,
    ewens_probability,
    expected_heterozygosity,
    expected_num_alleles,
    expected_num_segregating,
)
from mutagrad.theory.population.fixation import (
    fixation_by,
    fixation_probability,
    fixation_time,
    inverse_temperature,
    transition_matrix,
)
from mutagrad.theory.population.following import response_kernel, turning_response
from mutagrad.theory.population.rates import LearningRates, learning_rates
from mutagrad.theory.population.response import (
    Price,
    breeders_equation,
    price,
    replicator,
    replicator_moments,
    selection_intensity,
    shahshahani_gradient,
    truncation_response,
)

__all__ = [
    "LearningRates",
    "Price",
    "breeders_equation",
    "equilibrium_heterozygosity",
    "ewens_probability",
    "expected_heterozygosity",
    "expected_num_alleles",
    "expected_num_segregating",
    "fixation_by",
    "fixation_probability",
    "fixation_time",
    "inverse_temperature",
    "learning_rates",
    "price",
    "replicator",
    "replicator_moments",
    "response_kernel",
    "selection_intensity",
    "shahshahani_gradient",
    "transition_matrix",
    "truncation_response",
    "turning_response",
]
