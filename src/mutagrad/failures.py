"""Evaluations that failed: the NaN that stands for one, and the names under which the history counts them. It needs no JAX."""

__all__ = ["COUNTS", "RETURNED_NONE", "Failure"]

COUNTS = {
    "exception": "num_exceptions",
    "timeout": "num_timeouts",
    "worker": "num_dead_workers",
    "shape": "num_misshapen",
    "retry": "num_retries",
}
"""By what name the history counts them; what is not finite is in ``num_nonfinite``, whatever the kind."""


RETURNED_NONE = "returned None"


class Failure(float):
    """The NaN of an evaluation that failed.

    Attributes
    ----------
    reason : what happened, in words.
    kind : "exception", "timeout", "worker" (its process died) or "shape" (it returned no number and no vector of numbers).
    """

    reason: str
    kind: str

    def __new__(cls, reason: str, kind: str = "exception") -> "Failure":
        """A NaN with a reason."""
        self = super().__new__(cls, "nan")
        self.reason, self.kind = reason, kind
        return self

    @property
    def words(self) -> str:
        """What the evaluation did."""
        return self.reason if self.kind != "exception" or self.reason == RETURNED_NONE else f"raised {self.reason}"

    def __reduce__(self) -> tuple:
        return Failure, (self.reason, self.kind)
