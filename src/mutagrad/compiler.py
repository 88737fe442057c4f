"""The one version of JAX whose compiler computes wrong losses, and its refusal."""

import jax

__all__ = ["WRONG_VERSION", "check_compiler"]

WRONG_VERSION = "0.10.2"
"""This version merges a sum of products with the sum over it, and reads wrong rows of what lies between (jax issue 39103)."""


def check_compiler() -> None:
    """Refuse JAX 0.10.2 on a CPU, which computes wrong losses and reports nothing.

    The compiler of that version merges two reductions, as in the loss $\\sum_k |\\sum_l W_{kl} x_{kl}|$ of one example $x$.
    Losses can be wrong as soon as the inner sums of all examples take more than 128 KiB: 32,768 numbers in float32. The
    number of threads makes no difference. Versions 0.10.0, 0.10.1, 0.11.0 to 0.11.2 and 0.12.0.1 are right. A call costs
    less than a microsecond where the version is another one.

    Raises
    ------
    RuntimeError
        If JAX is of version 0.10.2 and its default backend is a CPU.

    Notes
    -----
    Source: jax issue 39103. ``tests/test_compiler.py`` holds the losses of many examples against NumPy.

    Examples
    --------
    >>> check_compiler()
    """
    # The version first: asking for the backend starts it.
    if jax.__version__ == WRONG_VERSION and jax.default_backend() == "cpu":
        raise RuntimeError(
            f"JAX {WRONG_VERSION} computes wrong losses on a CPU (jax issue 39103); install another version: "
            'pip install "jax!=0.10.2"'
        )
