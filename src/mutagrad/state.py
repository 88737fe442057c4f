"""States: what the next generation needs, and no more."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

__all__ = ["InnerState", "Params", "PopulationState", "State", "WrappedState"]

Params = Any
"""Any pytree of arrays. Floating leaves are mutated; integer and boolean ones are where the mutation says so
(`mutagrad.mutation.discrete`), and are passed on untouched otherwise, as keys are."""


class State(NamedTuple):
    """What an algorithm with one parent needs for its next generation, and no more.

    Attributes
    ----------
    params : pytree, the parent.
    sigma : scalar, mutation scale: standard deviation per parameter [parameter].
    generation : int32 scalar, generations completed.
    parent_loss : (B,) the parent's kept per-example losses (one entry for a scalar loss), with ``reevaluate_parent=False``;
        otherwise ``None``.
    previous : the mutated leaves of the parent before this one, ``None`` for all others, where the algorithm evaluates it
        again to see what its last step was worth; otherwise ``None``.
    """

    params: Params
    sigma: jax.Array
    generation: jax.Array
    parent_loss: jax.Array | None = None
    previous: Params = None

    def with_params(self, params: Params) -> "State":
        """The same state with another parent."""
        return State(params, self.sigma, self.generation, self.parent_loss, self.previous)

    def with_sigma(self, sigma: jax.Array) -> "State":
        """The same state with another mutation scale."""
        return State(self.params, sigma, self.generation, self.parent_loss, self.previous)

    def with_previous(self, previous: Params) -> "State":
        """The same state with a parent before, which is then evaluated on every other batch."""
        return State(self.params, self.sigma, self.generation, self.parent_loss, previous)


class PopulationState(NamedTuple):
    """What an algorithm with several parents needs for its next generation.

    Attributes
    ----------
    parents : pytree whose leaves carry a leading axis (num_parents,), best parent first.
    sigma, generation : as in `State`.
    """

    parents: Params
    sigma: jax.Array
    generation: jax.Array

    @property
    def params(self) -> Params:
        """The best parent, without the leading axis."""
        return jax.tree.map(lambda leaf: leaf[0], self.parents)

    def with_params(self, params: Params) -> "PopulationState":
        """The same state with another best parent; ``None`` keeps the parents."""
        if params is None:
            return self
        parents = jax.tree.map(lambda stack, leaf: stack.at[0].set(leaf), self.parents, params)
        return PopulationState(parents, self.sigma, self.generation)

    def with_sigma(self, sigma: jax.Array) -> "PopulationState":
        """The same state with another mutation scale."""
        return PopulationState(self.parents, sigma, self.generation)


class InnerState(Protocol):
    """What a wrapper asks of the state inside its own, and no more."""

    @property
    def params(self) -> Params:
        """The parent."""

    @property
    def sigma(self) -> jax.Array:
        """Mutation scale of the next generation."""

    @property
    def generation(self) -> jax.Array:
        """Generations completed."""

    def with_params(self, params: Params) -> Any:
        """The same state with another parent."""

    def with_sigma(self, sigma: jax.Array) -> Any:
        """The same state with another mutation scale."""


class WrappedState:
    """What a state with another one inside reads through to it; a named tuple whose first field is ``inner`` inherits it."""

    __slots__ = ()

    inner: Any
    _replace: Callable[..., Any]

    @property
    def params(self) -> Params:
        """The parent."""
        return self.inner.params

    @property
    def sigma(self) -> jax.Array:
        """Mutation scale of the next generation."""
        return self.inner.sigma

    @property
    def generation(self) -> jax.Array:
        """Generations completed."""
        return self.inner.generation

    @property
    def level(self) -> jax.Array:
        """Which of several batch sizes the next generation draws, where a wrapper inside chooses it."""
        return self.inner.level

    def with_params(self, params: Params) -> Any:
        """The same state with another parent."""
        return self._replace(inner=self.inner.with_params(params))

    def with_sigma(self, sigma: jax.Array) -> Any:
        """The same state with another mutation scale."""
        return self._replace(inner=self.inner.with_sigma(sigma))

    def with_previous(self, previous: Params) -> Any:
        """The same state with a parent before, where the state inside can have one; otherwise the same state."""
        inner = self.inner
        return self._replace(inner=inner.with_previous(previous)) if hasattr(inner, "with_previous") else self
