"""Findings in words: importing this teaches a Regime, a Diagnosis and a RunForecast the sentences that `print` shows."""

from mutagrad.report.text.diagnosis import diagnosis_text
from mutagrad.report.text.kind import kind_text
from mutagrad.report.text.landscape import effects_text, flatness_text, robustness_text, update_angles_text
from mutagrad.report.text.regime import best_strength_is_without, forecast_text, regime_text

__all__ = [
    "best_strength_is_without",
    "diagnosis_text",
    "effects_text",
    "flatness_text",
    "forecast_text",
    "kind_text",
    "regime_text",
    "robustness_text",
    "update_angles_text",
]
