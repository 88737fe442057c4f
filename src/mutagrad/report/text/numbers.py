"""Numbers, estimates and tables as text."""

import math
from collections.abc import Sequence

from mutagrad.estimate import Estimate

__all__ = ["about", "number", "percent", "table"]


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


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the head first: the first column aligned left, the others right.

    >>> from mutagrad.report.text.numbers import table
    >>> print(table([["M", "gain"], ["100", "2"]]))
    M    gain
    100     2
    """
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]).rstrip() for row in rows)
