"""What a run, or a loss, says of itself: in which regime it is, and what would do better."""

from mutagrad.diagnostics.course import Regime, course, is_resampled, regime
from mutagrad.diagnostics.diagnosis import Diagnosis, Forecast, diagnose
from mutagrad.diagnostics.forecast import RunForecast, forecast
from mutagrad.diagnostics.measured import Measured
from mutagrad.diagnostics.plans import Plan, gain_on_batch
from mutagrad.diagnostics.probes import Landscape

__all__ = [
    "Diagnosis",
    "Forecast",
    "Landscape",
    "Measured",
    "Plan",
    "Regime",
    "RunForecast",
    "course",
    "diagnose",
    "forecast",
    "gain_on_batch",
    "is_resampled",
    "regime",
]
