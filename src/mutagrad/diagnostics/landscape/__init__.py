"""How evolution reads a loss landscape: flatness, effects of mutations, angles of updates, caps of directions, robustness."""

from mutagrad.diagnostics.landscape.cap import cap_angle, cap_probability
from mutagrad.diagnostics.landscape.comparison import Comparison, comparison_power
from mutagrad.diagnostics.landscape.flatness import Flatness, flatness
from mutagrad.diagnostics.landscape.gradients import BatchAngles
from mutagrad.diagnostics.landscape.mutational_effects import MutationalEffects, mutational_effects
from mutagrad.diagnostics.landscape.pareto import ParetoFit, fit_pareto, normal_shape
from mutagrad.diagnostics.landscape.robustness import Robustness, dropout_corruption, gaussian_corruption, robustness
from mutagrad.diagnostics.landscape.update_angles import MeanCosine, UpdateAngles, update_angles

__all__ = [
    "BatchAngles",
    "Comparison",
    "Flatness",
    "MeanCosine",
    "MutationalEffects",
    "ParetoFit",
    "Robustness",
    "UpdateAngles",
    "cap_angle",
    "cap_probability",
    "comparison_power",
    "dropout_corruption",
    "fit_pareto",
    "flatness",
    "gaussian_corruption",
    "mutational_effects",
    "normal_shape",
    "robustness",
    "update_angles",
]
