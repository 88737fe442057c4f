"""Whitelam 2026, "Why can genetic algorithms work in high-dimensional search spaces?": its claims.

(1+M) selection on quadratics of known curvatures (`mutagrad.lab.claims.quadratics`), on the shallow net of 30 tanh
(`mutagrad.lab.claims.tanh_nets`) and on the Hessian of the ConvNet. Mutation strength is stated as s = σTrH/|∇U|.
"""

from mutagrad.lab.claims.whitelam2026 import breakdown, control, gain, generation, paths, rank, spectrum, speed

__all__ = ["CLAIMS"]

_MODULES = (breakdown, control, gain, generation, paths, rank, spectrum, speed)
CLAIMS = sorted(
    (claim for module in _MODULES for claim in module.CLAIMS),
    key=lambda claim: int(claim.id.split("-")[1]),
)
