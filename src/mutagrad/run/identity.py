"""What makes two runs different, and in which versions a trajectory was made."""

import hashlib
import platform
import re
import sys
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["by_path", "changed", "identity_of", "kind_of", "mark", "versions"]

_LIBRARIES = ("mutagrad", "jax", "jaxlib", "numpy", "equinox", "flax")
"""Those whose version a trajectory depends on, where they are loaded."""


def versions() -> dict[str, str]:
    """Of what a trajectory depends on, apart from its own key, functions and numbers."""
    device = jax.devices()[0]
    return {name: _version(name) for name in _LIBRARIES if name in sys.modules} | {
        "device": f"{device.platform} ({device.device_kind})" if device.platform != "cpu" else "cpu",
        "machine": platform.machine(),
        "x64": str(bool(jax.config.read("jax_enable_x64"))),
    }


def changed(then: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Versions of then and now, by name, of those that are known and other ones now."""
    now = versions()
    return {name: (one, now[name]) for name, one in then.items() if now.get(name, one) != one}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def identity_of(key: jax.Array, algorithm: Any, state: Any) -> dict[str, str]:
    """What makes two runs different: the key, and the algorithm, in words, by its first σ and by its program.

    The program is what JAX makes of ``tell``: numbers and functions that no words tell are in it.
    """
    data = np.asarray(jax.random.key_data(key))
    # A function in it has another address in every process.
    words = _without_addresses(repr(algorithm))
    sigma = repr(float(np.mean(algorithm.init(state.params, lambda params: jnp.zeros(())).sigma)))
    losses = jnp.zeros(len(algorithm.ask(key, state)))
    program = jax.make_jaxpr(lambda *given: algorithm.tell(*given)[0])(key, state, losses)
    digest = hashlib.sha256(_without_addresses(str(program)).encode())
    for constant in program.consts:
        digest.update(np.ascontiguousarray(constant).tobytes())
    return {
        "key": f"{jax.random.key_impl(key)} {data.tobytes().hex()}",
        "algorithm": words,
        "sigma": sigma,
        "program": digest.hexdigest(),
        "leaves": str([kind_of(leaf) for leaf in by_path(state).values() if hasattr(leaf, "dtype")]),
    }


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def by_path(state: Any) -> dict[str, jax.Array]:
    """The leaves of a state by the paths to them."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def kind_of(leaf: Any) -> list[Any]:
    """Shape and dtype of a leaf, as JSON holds them."""
    return [list(np.shape(leaf)), str(leaf.dtype)]


def mark(params: Any, of: str = "") -> bytes:
    """16 bytes of parameters, and of what they are."""
    digest = hashlib.blake2b(of.encode(), digest_size=16)
    for leaf in jax.tree.leaves(params):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
