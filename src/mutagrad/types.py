"""The data that flow through a generation: what the next step needs, what it reports, and the pair of functions."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax

from mutagrad import tree
from mutagrad.law import DensityLaw, SelectionLaw

Params = Any
"""Any pytree of arrays. Floating leaves are mutated; integer, boolean and key leaves are passed on untouched."""

LossFn = Callable[[Params], jax.Array]
"""``loss_fn(params)``: a floating scalar, or a vector of per-example losses whose mean is minimised."""


class State(NamedTuple):
    """What a single-parent algorithm needs for its next generation, and no more.

    Attributes
    ----------
    params : pytree, the parent.
    sigma : scalar, mutation strength: standard deviation per parameter [parameter].
    generation : int32 scalar, generations completed.
    parent_loss : ``None``, unless the algorithm was built with ``reevaluate_parent=False``. Then the parent's cached
        loss: a vector of per-example losses (one entry for a scalar loss) once known at `init`, or a scalar that is
        NaN until the first step has evaluated it.
    """

    params: Params
    sigma: jax.Array
    generation: jax.Array
    parent_loss: jax.Array | None = None

    def with_params(self, params: Params) -> "State":
        """The same state with another parent."""
        return State(params, self.sigma, self.generation, self.parent_loss)

    def with_sigma(self, sigma: jax.Array) -> "State":
        """The same state with another mutation strength."""
        return State(self.params, sigma, self.generation, self.parent_loss)

    def with_expected_loss(self, loss: jax.Array) -> "State":
        """The same state: a generation asks for the loss on its own batch only."""
        return self


class PopulationState(NamedTuple):
    """What an algorithm with several parents needs for its next generation.

    Attributes
    ----------
    parents : pytree whose floating leaves carry a leading axis (num_parents,), best parent first. Other leaves are
        shared by all parents and carry no such axis.
    sigma, generation : as in `State`.
    """

    parents: Params
    sigma: jax.Array
    generation: jax.Array

    @property
    def params(self) -> Params:
        """The best parent, without the leading axis."""
        return tree.map_floating(lambda leaf: leaf[0], self.parents)

    def with_params(self, params: Params) -> "PopulationState":
        """The same state with another best parent; ``None`` keeps the parents."""
        if params is None:
            return self
        parents = tree.map_floating(lambda stack, leaf: stack.at[0].set(leaf), self.parents, params)
        return PopulationState(parents, self.sigma, self.generation)

    def with_sigma(self, sigma: jax.Array) -> "PopulationState":
        """The same state with another mutation strength."""
        return PopulationState(self.parents, sigma, self.generation)


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
        """Mutation strength of the next generation."""
        return self.inner.sigma

    @property
    def generation(self) -> jax.Array:
        """Generations completed."""
        return self.inner.generation

    def rotated(self, rotate_fn: Callable[[Params], Params]) -> Any:
        """The same state with the next group of parameters in the first place; see `Turns`."""
        return self._replace(inner=self.inner.rotated(rotate_fn))

    def with_params(self, params: Params) -> Any:
        """The same state with another parent."""
        return self._replace(inner=self.inner.with_params(params))

    def with_sigma(self, sigma: jax.Array) -> Any:
        """The same state with another mutation strength."""
        return self._replace(inner=self.inner.with_sigma(sigma))

    def with_expected_loss(self, loss: jax.Array) -> Any:
        """The same state of a parent that had this loss on the batch before; by it, another batch is told from the same."""
        return self._replace(inner=self.inner.with_expected_loss(loss))


class Info(NamedTuple):
    """What one generation did. Nothing here is needed by the next one.

    Attributes
    ----------
    losses : (M,) loss of every offspring [loss].
    parent_loss : scalar, loss of the parent on the same batch [loss] (the best parent's, where there are several).
    loss_differences : (M,) offspring minus its own parent, from paired per-example differences where the loss is a
        vector [loss]; non-finite where either loss is.
    loss_difference_variances : (M,) sampling variance of each loss difference over the examples, Var_i(Δℓ_i)/B
        [loss²]; 0 for a scalar loss.
    winner : int32 index of the selected offspring, −1 if the parent stays. (num_parents,) for several parents, best
        first. The best offspring, where all of them recombine.
    is_accepted : bool, whether an offspring replaced the parent. Has the shape of ``winner``.
    loss_change : scalar, loss of the next parent minus that of this one on the same batch, paired like ``loss_differences``
        (of the best parents, where there are several) [loss].
    sigma : scalar, the mutation strength that made these offspring [parameter].
    num_nonfinite : int32, offspring whose loss was NaN or infinite, and which therefore could not win.
    normalized_mutation_strength : scalar, s = 2 mean(ΔU)/std(ΔU) over the finite loss differences of this generation:
        the estimate of σ TrH/|∇U|. NaN with fewer than two finite offspring or when all differences are equal. One
        generation's estimate has a standard error near 2/√M; `mutagrad.adapt_sigma` replaces it by a pooled one.
    hessian_trace : scalar, 2 mean(ΔU)/σ²: the estimate of TrH, defined for M = 1 too [loss/parameter²].
    squared_grad_norm : scalar, Var(ΔU)/σ²: the estimate of |∇U|² on this batch, its sampling noise included; NaN with fewer
        than two finite offspring [loss²/parameter²].
    squared_grad_noise : scalar, mean of the sampling variances over σ²: the estimate of TrC/B, the share of
        ``squared_grad_norm`` that a batch drawn afresh would not repeat [loss²/parameter²]. With several parents it also
        holds what the examples think of their parents' differences.
    gradient_curvature : scalar, κ₃(ΔU)/3σ⁴: the estimate of ∇U·H∇U on this batch; NaN with fewer than three finite offspring
        [loss³/parameter⁴]. For what these four assume, see `mutagrad.gauge`; `mutagrad.diagnostics.regime` pools them over
        generations.
    """

    losses: jax.Array
    parent_loss: jax.Array
    loss_differences: jax.Array
    loss_difference_variances: jax.Array
    winner: jax.Array
    is_accepted: jax.Array
    loss_change: jax.Array
    sigma: jax.Array
    num_nonfinite: jax.Array
    normalized_mutation_strength: jax.Array
    hessian_trace: jax.Array
    squared_grad_norm: jax.Array
    squared_grad_noise: jax.Array
    gradient_curvature: jax.Array


class Mutation(NamedTuple):
    """A mutation density, scaled to unit variance per parameter.

    Attributes
    ----------
    sample_fn : ``sample_fn(key, params) -> noise``, a pytree of the structure of ``params``. Entries at leaves that are
        not floating are ignored; ``None`` for a leaf leaves it as it is. The noise has mean zero and covariance I (or
        the documented one); the library multiplies it by σ.
    name : the density's name, as `repr` and theory show it.
    options : the arguments that the density was built with.
    law : what theory reads, one of `mutagrad.law`; ``None`` if it is not stated, and then there is no theory.
    """

    sample_fn: Callable[[jax.Array, Params], Params]
    name: str = "user"
    options: Mapping[str, Any] = MappingProxyType({})
    law: DensityLaw | None = None


class Selection(NamedTuple):
    """A selection rule.

    Attributes
    ----------
    select_fn : ``select_fn(key, losses, parent_loss) -> winner``, with ``losses`` (M,) and a scalar ``parent_loss``;
        the winner is an int32 index into ``losses``, or −1 for the parent. Losses come relative to the parent (so
        ``parent_loss`` is 0, or +inf if the parent's own loss was not finite), a failed offspring as +inf.
    name, options : as in `Mutation`.
    acceptance_fn : for rules that judge one offspring, the probability A(ΔU) of accepting it; otherwise ``None``.
    num_winners : how many offspring become parents; the winner then has shape (num_winners,).
    weights_fn : for rules that recombine, ``weights_fn(losses) -> (M,)``: the parent moves by the offspring's mutations times
        these weights, and the winner is only reported; otherwise ``None``.
    law : what theory reads, one of `mutagrad.law`; ``None`` if it is not stated, and then there is no theory.
    """

    select_fn: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    name: str = "user"
    options: Mapping[str, Any] = MappingProxyType({})
    acceptance_fn: Callable[[jax.Array], jax.Array] | None = None
    num_winners: int = 1
    weights_fn: Callable[[jax.Array], jax.Array] | None = None
    law: SelectionLaw | None = None


class Definition(NamedTuple):
    """What a named algorithm is assembled from, for theory to read."""

    sigma: Any
    mutation: Mutation
    selection: Selection
    num_offspring: int
    reevaluate_parent: bool = True
    evaluation: str | int = "auto"


class UnknownDefinition(NamedTuple):
    """A wrapper's word that what it makes has no single definition."""

    reason: str


class InitFn(Protocol):
    """``init(params, loss_fn=None) -> state``; ``loss_fn`` is used only with ``reevaluate_parent=False``."""

    def __call__(self, params: Params, loss_fn: LossFn | None = None) -> Any:
        """The state to start from."""
        ...


class StepFn(Protocol):
    """``step(key, state, loss_fn) -> (state, info)``: one generation, a pure function."""

    def __call__(self, key: jax.Array, state: Any, loss_fn: LossFn) -> tuple[Any, Info]:
        """The state after one generation, and what happened in it."""
        ...


class Turns(NamedTuple):
    """What the loop around an algorithm must know to let groups of parameters take turns in it; see `mutagrad.rotate`.

    A loop over the generations of one turn finds all groups but the first the same in each of them, and so computes once what
    depends on nothing else.

    Attributes
    ----------
    generations : of a turn.
    rotate_fn : brings the next group of the params to the first place.
    step : as in `Algorithm`, within a turn: the groups stay in their places.
    """

    generations: int
    rotate_fn: Callable[[Params], Params]
    step: StepFn

    def begin(self, state: Any) -> Any:
        """The state in which a generation begins: with the next group in the first place if a turn has ended."""
        has_ended = (state.generation > 0) & (state.generation % self.generations == 0)
        return jax.lax.cond(has_ended, lambda state: state.rotated(self.rotate_fn), lambda state: state, state)

    def remaining(self, state: Any) -> jax.Array:
        """Generations to the end of the turn of the next one, that one included."""
        return self.generations - state.generation % self.generations


class Algorithm(NamedTuple):
    """An algorithm of mutation and selection: two pure functions, and the parts that they are made of.

    Attributes
    ----------
    init : ``init(params, loss_fn=None) -> state``.
    step : ``step(key, state, loss_fn) -> (state, info)``: one generation. Works under ``jit``, ``scan`` and ``vmap``
        over keys, states and σ.
    definition : the mutation, selection and numbers that the algorithm was assembled from.
    turns : what `mutagrad.evolve` must know of groups of parameters that take turns, if any do.
    """

    init: InitFn
    step: StepFn
    definition: Definition
    turns: Turns | None = None

    def wrapped(self, init: InitFn, step: Callable[..., tuple[Any, Info]]) -> "Algorithm":
        """Another algorithm, ``step(step_fn, key, state, loss_fn)``, around the generation ``step_fn`` of this one.

        A state of its own must be a `WrappedState` of this one's.

        >>> import jax, jax.numpy as jnp, mutagrad
        >>> def halved(step_fn, key, state, loss_fn):
        ...     return step_fn(key, state.with_sigma(state.sigma / 2), loss_fn)
        >>> algorithm = mutagrad.elitist(sigma=0.2, num_offspring=4)
        >>> algorithm = algorithm.wrapped(algorithm.init, halved)
        >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
        >>> round(float(info.sigma), 3)
        0.1
        """
        turns = None if self.turns is None else self.turns._replace(step=partial(step, self.turns.step))
        return Algorithm(init, partial(step, self.step), self.definition, turns)
