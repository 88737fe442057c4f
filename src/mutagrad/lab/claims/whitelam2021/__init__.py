"""Whitelam, Selin, Park, Tamblyn 2021, "Correspondence between neuroevolution and gradient descent": its claims.

A shallow net of 30 tanh learns sin 2πθ at 1000 points (`mutagrad.lab.claims.tanh_nets`). Evolution is greedy with σ = λα√2π,
gradient descent x ← x − αĝ, and time t = α·(its steps) = αλ·(generations).
"""

from mutagrad.lab.claims.whitelam2021 import (
    local,
    paths,
    population,
    precision,
    stationary,
    temperature,
    variants,
    wells,
)

__all__ = ["CLAIMS"]

_MODULES = (paths, variants, temperature, local, stationary, precision, population, wells)

CLAIMS = sorted(
    (claim for module in _MODULES for claim in module.CLAIMS), key=lambda claim: int(claim.id.split("-")[1])
)
