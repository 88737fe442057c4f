"""What a generation of genomes did, where a type says less than is known."""

from typing import Any, cast

import mutagrad
from mutagrad.algorithms.genomes.reproduction import Turnover

__all__ = ["turnover_of"]


def turnover_of(info: Any) -> Turnover:
    """Parents, and mutations that arose, were fixed and were lost, from the info of a `mutagrad.population`.

    An algorithm promises a `mutagrad.Info`; that of a population is a `mutagrad.GenomeInfo`.
    """
    return cast(mutagrad.GenomeInfo, info).turnover
