"""A program whose arrays may be matrices that are not formed: with loops over layers, and calls of other programs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import quax
from jax.extend.core import ClosedJaxpr
from jax.extend.core import primitives as operations
from jaxtyping import ArrayLike
from quax._compat import unpack_scan_args
from quax._primitives import scan_quax

# They register the rules.
from mutagrad.evaluation.low_rank import products, shapes
from mutagrad.evaluation.low_rank.matrix import LowRank, note, noting

__all__ = ["LowRank", "Unfollowed", "noting", "products", "shapes", "traced"]


class Unfollowed(Exception):
    """A program that quax cannot follow, and its reason."""


@quax.register(operations.scan_p)
def _(*args: LowRank | ArrayLike, jaxpr: Any, **params: Any) -> Any:
    """Layers that a loop takes one by one: a factor that all of them share is given to each."""

    def given(one: Any) -> Any:
        if not isinstance(one, LowRank):
            return one
        number = one.base.shape[0]
        left, right = (jnp.broadcast_to(factor, (number, *factor.shape[1:])) for factor in (one.left, one.right))
        return LowRank(one.base, left, right)

    inner = [variable.aval.ndim for variable in getattr(jaxpr, "jaxpr", jaxpr).invars]
    outer = [one.base.ndim if isinstance(one, LowRank) else jnp.ndim(one) for one in args]
    # In the loop, what it takes one by one has an axis fewer.
    first = sum(a == b for a, b in zip(inner, outer, strict=True))
    return scan_quax(*args[:first], *map(given, args[first:]), jaxpr=jaxpr, **params)


def traced(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` where arrays may be `LowRank`.

    Functions with derivatives of their own, which quax has no rule for, are their programs: nothing is differentiated here.
    """
    plain = jax.tree.map(lambda one: one.base if isinstance(one, LowRank) else one, args, is_leaf=_is_low_rank)
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*plain)
    leaves = jax.tree.leaves(args, is_leaf=_is_low_rank)
    try:
        out = quax.quaxify(_inlined(closed))(*leaves)
    except Exception as error:  # whatever quax says; what the function itself raises, it has raised above
        words = str(error).strip().splitlines() or [""]
        raise Unfollowed(f"{type(error).__name__}: {words[0]}") from error
    out = [one.materialise() if isinstance(one, LowRank) else one for one in out]
    return jax.tree.unflatten(jax.tree.structure(shape), out)


def _is_low_rank(one: Any) -> bool:
    return isinstance(one, LowRank)


_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}
"""Operations that are programs, by name, and the parameter that holds them."""
_PASSED_ON = ("stop_gradient", "optimization_barrier")
"""Operations that hand on what they are given; nothing is differentiated here."""
_WITH_PROGRAMS = ("scan", "while", "cond")


def _inlined(closed: ClosedJaxpr) -> Callable[..., list]:
    """The program as a function, with the programs that it calls in place of the calls."""

    def run(*args: Any) -> list:
        jaxpr = closed.jaxpr
        values: dict[Any, Any] = {}

        def read(atom: Any) -> Any:
            return atom.val if hasattr(atom, "val") else values[atom]

        values.update(zip(jaxpr.constvars, closed.consts, strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        for equation in jaxpr.eqns:
            inputs, name, params = [read(atom) for atom in equation.invars], equation.primitive.name, equation.params
            if name in _PASSED_ON:
                out = inputs
            elif name in _INLINED:
                inner = params[_INLINED[name]]
                out = _inlined(inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ()))(*inputs)
            else:
                if name in _WITH_PROGRAMS:
                    params = {key: _rebuilt(value) for key, value in params.items()}
                    inputs = _with_whole_carry(name, inputs, params)
                bound = equation.primitive.get_bind_params(params)
                functions, params = bound if isinstance(bound, tuple) else ((), bound)
                out = equation.primitive.bind(*functions, *inputs, **params)
                out = out if equation.primitive.multiple_results else [out]
            values.update(zip(equation.outvars, out, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    return run


def _rebuilt(value: Any) -> Any:
    """A parameter of a loop or a branch, its programs inlined, and made anew: quax follows the same one only once."""
    if isinstance(value, tuple | list) and any(isinstance(one, ClosedJaxpr) for one in value):
        return type(value)(_rebuilt(one) for one in value)
    if not isinstance(value, ClosedJaxpr):
        return value
    run = _inlined(value)
    return jax.make_jaxpr(lambda *args: [operations.copy_p.bind(one) for one in run(*args)])(*value.in_avals)


def _with_whole_carry(name: str, inputs: list, params: dict[str, Any]) -> list:
    """The arguments of a loop, what it carries from one round to the next formed: it is another array in each."""
    if name == "scan":
        consts, carry, scanned = unpack_scan_args(tuple(inputs), params)
    elif name == "while":
        first = params["cond_nconsts"] + params["body_nconsts"]
        consts, carry, scanned = inputs[:first], inputs[first:], []
    else:
        return inputs
    return [*consts, *(operations.copy_p.bind(one) for one in carry), *scanned]


@quax.register(operations.copy_p)
def _(matrix: LowRank) -> Any:
    """What a loop carries, and what programs within the program return."""
    note(formed="what a loop or a branch hands on")
    return matrix.materialise()
