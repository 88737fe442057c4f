"""Numbers, estimates and tables as text."""

import math
from collections.abc import Sequence

from mutagrad.estimate import Estimate

__all__ = ["about", "number", "percent", "percent_about", "table"]


def number(value: float) -> str:
    """Three significant digits.

    >>> from mutagrad.report.text.numbers import number
    >>> number(0.123456), number(12345.6), number(float("inf"))
    ('0.123', '12,346', '∞')
    """
    if not math.isfinite(value):
        return "∞" if value == math.inf else "unknown"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def about(estimate: Estimate) -> str:
    """Value ± standard error without the unit; the value alone where there is no error.

    >>> from mutagrad.estimate import Estimate
    >>> from mutagrad.report.text.numbers import about
    >>> about(Estimate(1.2345, 0.012, "loss")), about(Estimate(2.0, float("nan")))
    ('1.234 ± 0.012', '2')
    """
    value, error = float(estimate.value), float(estimate.error)
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return number(value)
    return str(Estimate(value, error))


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.3g} %" if math.isfinite(share) else "unknown"


def percent_about(share: Estimate) -> str:
    """A share in percent with its standard error.

    >>> from mutagrad.estimate import Estimate
    >>> from mutagrad.report.text.numbers import percent_about
    >>> percent_about(Estimate(0.968, 0.0127)), percent_about(Estimate(3.2e-7, 1e-8))
    ('96.8 ± 1.3 %', '(3.20 ± 0.10)e-05 %')
    """
    if not math.isfinite(share.value):
        return "unknown"
    return f"{about(Estimate(100 * float(share.value), 100 * float(share.error)))} %"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the head first: the first column aligned left, the others right.

    >>> from mutagrad.report.text.numbers import table
    >>> print(table([["M", "gain"], ["100", "2"]]))
    M    gain
    100     2
    """
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]).rstrip() for row in rows)
