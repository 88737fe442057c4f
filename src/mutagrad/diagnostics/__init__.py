"""What a run, or a loss, says of itself: in which regime it is, and what would do better."""

from mutagrad.diagnostics import landscape
from mutagrad.diagnostics.diagnosis import Diagnosis, diagnose
from mutagrad.diagnostics.findings import Finding, describe
from mutagrad.diagnostics.forecast import RunForecast, forecast
from mutagrad.diagnostics.kind import LossKind
from mutagrad.diagnostics.plans import Plan, gain_on_batch
from mutagrad.diagnostics.prospects import Forecast
from mutagrad.diagnostics.regime import Regime, regime
from mutagrad.diagnostics.survey import loss_kind
from mutagrad.diagnostics.verdicts import findings

__all__ = [
    "Diagnosis",
    "Finding",
    "Forecast",
    "LossKind",
    "Plan",
    "Regime",
    "RunForecast",
    "describe",
    "diagnose",
    "findings",
    "forecast",
    "gain_on_batch",
    "landscape",
    "loss_kind",
    "regime",
]
