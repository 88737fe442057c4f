"""The data that flow through a generation: what the next step needs, what it reports, and the functions between them."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from mutagrad import tree
from mutagrad.law import DensityLaw, SelectionLaw
from mutagrad.state import InnerState, Params, PopulationState, State, WrappedState

__all__ = [
    "Algorithm",
    "AskFn",
    "Definition",
    "Descent",
    "Info",
    "InitFn",
    "InnerState",
    "LossFn",
    "Mutation",
    "Params",
    "PopulationState",
    "Selection",
    "State",
    "StepFn",
    "TellFn",
    "UnknownDefinition",
    "WrappedState",
]

LossFn = Callable[[Params], jax.Array]
"""``loss_fn(params)``: a floating scalar, or a vector of per-example losses whose mean is minimised."""


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
    winner : int32 index of the offspring with the largest share in the next parent, −1 if that is the parent.
        (num_parents,) for several parents, best first.
    descent : `Descent`, who the next parents descend from and in what shares: what the selection rule returned, with the first
        parent in place of offspring whose loss is not finite.
    is_accepted : bool, whether an offspring has a share in the next parent. Has the shape of ``winner``.
    loss_change : scalar, loss of the next parent minus that of this one on the same batch, paired like ``loss_differences``
        (of the best parents, where there are several); NaN where the next parent is none of the candidates [loss].
    validated_change : scalar, loss of the parent minus that of the parent before, both on this batch: what the last step
        was worth, by losses that did not select it. NaN unless the algorithm evaluates the parent before [loss].
    sigma : scalar, the mutation scale that made these offspring [parameter].
    num_nonfinite : int32, offspring whose loss was NaN or infinite, and which therefore could not win.
    num_examples : int32, per-example losses that the batch had; 1 for a scalar loss.
    is_resampled : bool, whether the batch is another one than that of the generation before, as the caller told.
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
        [loss³/parameter⁴]. For what these four assume, see `mutagrad.estimates`; `mutagrad.diagnostics.regime` pools them
        over generations.
    """

    losses: jax.Array
    parent_loss: jax.Array
    loss_differences: jax.Array
    loss_difference_variances: jax.Array
    winner: jax.Array
    is_accepted: jax.Array
    loss_change: jax.Array
    validated_change: jax.Array
    sigma: jax.Array
    num_nonfinite: jax.Array
    num_examples: jax.Array
    is_resampled: jax.Array
    normalized_mutation_strength: jax.Array
    hessian_trace: jax.Array
    squared_grad_norm: jax.Array
    squared_grad_noise: jax.Array
    gradient_curvature: jax.Array
    descent: "Descent"


class Mutation(NamedTuple):
    """A mutation density, scaled to unit variance per parameter.

    Attributes
    ----------
    sample_fn : ``sample_fn(key, params) -> noise``, a pytree of the structure of ``params``. Numbers at leaves that are
        not floating are ignored; ``None`` for a leaf leaves it as it is. The noise has mean zero and covariance I (or
        the documented one); the library multiplies it by σ.
    name : the density's name, as messages and `repr` show it.
    options : the arguments that the density was built with, for `repr`.
    law : what theory reads, one of `mutagrad.law`; ``None`` if it is not stated, and then there is no theory.
    check_fn : ``check_fn(params)`` raises a ValueError where params are outside the density's domain; ``None`` for free real
        parameters. A density that has one may mutate leaves that are not floating: an entry of its noise then has a method
        ``applied(leaf, sigma)``, which makes the mutant's leaf, with as large a change for −σ the opposite way.
    """

    sample_fn: Callable[[jax.Array, Params], Params]
    name: str = "user"
    options: Mapping[str, Any] = MappingProxyType({})
    law: DensityLaw | None = None
    check_fn: Callable[[Params], None] | None = None

    def checked(self, params: Params) -> Params:
        """The params as arrays, or a ValueError if there is nothing to mutate, or a value that cannot be."""
        params = tree.check_params(params, self.check_fn is not None)
        if self.check_fn is not None:
            self.check_fn(params)
            if not jax.tree.leaves(self.mutated(params)):
                raise ValueError(
                    f"params: got no leaf that {self.name} mutations change, so there is nothing to mutate; pass a float "
                    "array, or a domain that is discrete"
                )
        return params

    def mutated(self, params: Params) -> Params:
        """The leaves that are mutated, and ``None`` for the others."""
        noise = jax.eval_shape(self.sample_fn, jax.random.key(0), params)
        own = partial(jax.tree.map, is_leaf=lambda leaf: leaf is None)
        return own(lambda leaf, change: leaf if tree.is_mutated(leaf, change) else None, params, noise)

    def num_mutated(self, params: Params) -> int:
        """How many parameters are mutated."""
        return tree.num_entries(self.mutated(params))

    def __repr__(self) -> str:
        return _call(self.name, self.options)


class Descent(NamedTuple):
    """Who the next parents descend from, and in what shares: what every selection rule returns.

    An ancestor is an index: 0 to M − 1 for the offspring, −1 for the first parent, −2 for the second, and so on. An index that
    none of them has is the first parent's.

    Attributes
    ----------
    ancestors : (K, A) int32, A ancestors of each of the K next parents.
    shares : (K, A) floating, their shares. What is short of 1 is the first parent's.
    inheritance : "copy": each next parent is its one ancestor as it is, with a share of 1, as `of` has it. Or how ancestors mix.
        "blend": a weighted sum, the parent plus the mutations times their shares. "leaf", "parameter": each of these comes
        whole from one ancestor, drawn with probability in proportion to the shares.
    """

    ancestors: jax.Array
    shares: jax.Array
    inheritance: str = "blend"

    @classmethod
    def of(cls, winners: Any) -> "Descent":
        """Each next parent is one candidate: ``winners`` is an index, or (K,) of them, best first."""
        if not jnp.issubdtype(jnp.result_type(winners), jnp.integer):
            raise ValueError(f"select_fn: got {jnp.result_type(winners)} back; return an index, or a Descent")
        ancestors = jnp.reshape(jnp.asarray(winners, jnp.int32), (-1, 1))
        return cls(ancestors, jnp.ones(ancestors.shape, jnp.result_type(float)), "copy")


def _arrays_of(descent: Descent) -> tuple:
    keys = (jax.tree_util.GetAttrKey(name) for name in ("ancestors", "shares"))
    return tuple(zip(keys, descent[:2], strict=True)), descent.inheritance


def _of_arrays(inheritance: str, arrays: Any) -> Descent:
    ancestors, shares = arrays
    return Descent(ancestors, shares, inheritance)


jax.tree_util.register_pytree_with_keys(Descent, _arrays_of, _of_arrays)


class Selection(NamedTuple):
    """A selection rule.

    Attributes
    ----------
    select_fn : ``select_fn(key, losses, parent_losses) -> Descent``, or an index as for `Descent.of`. ``losses`` (M,) and
        ``parent_losses`` (P,) are relative to the first parent's loss, which is then 0; one that is not finite is +inf.
    name, options : as in `Mutation`.
    num_parents : K, how many parents the next generation has.
    law : what theory reads, one of `mutagrad.law`; ``None`` if it is not stated, and then there is no theory.
    """

    select_fn: Callable[[jax.Array, jax.Array, jax.Array], Any]
    name: str = "user"
    options: Mapping[str, Any] = MappingProxyType({})
    num_parents: int = 1
    law: SelectionLaw | None = None

    def __repr__(self) -> str:
        return _call(self.name, self.options)


class Definition(NamedTuple):
    """What an algorithm is assembled from: for theory to read, and for `repr` to show.

    Attributes
    ----------
    sigma : the mutation scale; ``None`` if it changes while the algorithm runs.
    mutation, selection : the parts.
    num_offspring : M.
    reevaluate_parent : whether the parent faces the batch of its offspring.
    validate : whether the parent before faces it too.
    evaluation : the evaluator that the algorithm prefers.
    """

    sigma: Any
    mutation: Mutation
    selection: Selection
    num_offspring: int
    reevaluate_parent: bool = True
    validate: bool = False
    evaluation: Any = "auto"

    def __repr__(self) -> str:
        scale = "σ changes" if self.sigma is None else f"σ = {self.sigma}"
        name = getattr(self.evaluation, "name", "")
        parts = [
            f"{self.num_offspring} offspring, {self.mutation!r} mutations with {scale}, {self.selection!r} selection",
            name,
        ]
        return ", ".join(filter(None, parts))


class UnknownDefinition(NamedTuple):
    """A wrapper's word that what it makes has no single definition.

    Attributes
    ----------
    reason : why, and what to ask in its place.
    """

    reason: str


def _call(name: str, options: Mapping[str, Any]) -> str:
    shown = [f"{key}={value!r}" for key, value in options.items()]
    return name + (f"({', '.join(shown)})" if shown and sum(map(len, shown)) < 60 else "(…)" if shown else "")


class InitFn(Protocol):
    """``init(params, loss_fn=None) -> state``; ``loss_fn`` is used only with ``reevaluate_parent=False``."""

    def __call__(self, params: Params, loss_fn: LossFn | None = None) -> Any:
        """The state to start from."""


class AskFn(Protocol):
    """``ask(key, state) -> Offspring``: the candidates of a generation, not made yet."""

    def __call__(self, key: jax.Array, state: Any, *, is_resampled: Any = True) -> Any:
        """The candidates, parents first."""


class TellFn(Protocol):
    """``tell(key, state, losses) -> (state, info)``: the next state, from the losses of the candidates alone."""

    def __call__(self, key: jax.Array, state: Any, losses: Any, *, is_resampled: Any = True) -> tuple[Any, Info]:
        """The state after the generation, and what happened in it."""


class StepFn(Protocol):
    """``step(key, state, loss_fn) -> (state, info)``: ask, evaluate and tell, a pure function."""

    def __call__(
        self, key: jax.Array, state: Any, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
    ) -> tuple[Any, Info]:
        """The state after one generation, and what happened in it."""


class Algorithm(NamedTuple):
    """An algorithm of mutation and selection: pure functions, and what they are made of.

    Attributes
    ----------
    init : ``init(params, loss_fn=None) -> state``; several start parents are passed as `mutagrad.parents`.
    ask : ``ask(key, state) -> Offspring``: the candidates of a generation, parents first; none of them is made yet. Where an
        algorithm evaluates the parent before, it is the second; ``is_resampled=False`` leaves it out if that is needless.
    tell : ``tell(key, state, losses) -> (state, info)``, losses in the order of ``ask``: (n,) numbers, or (n, B) per
        example; NaN or ``None`` is a failed evaluation. ``is_resampled=False`` says that the batch is that of the
        generation before, so that nothing of the slope is sampling noise.
    step : ``step(key, state, loss_fn) -> (state, info)``: ask, evaluate, tell. Works under ``jit``, ``scan`` and ``vmap``
        over keys, states and σ. Takes ``is_resampled`` too, and ``evaluation`` in place of the algorithm's own.
    definition : the mutation, selection and numbers that the algorithm was assembled from.
    """

    init: InitFn
    ask: AskFn
    tell: TellFn
    step: StepFn
    definition: Definition | UnknownDefinition

    def __repr__(self) -> str:
        definition = self.definition
        return f"Algorithm({definition.reason if isinstance(definition, UnknownDefinition) else repr(definition)})"

    def wrapped(
        self,
        init: InitFn,
        before: Callable[[Any], Any],
        after: Callable[[Any, Any, Info], tuple[Any, Info]],
        definition: Definition | UnknownDefinition | None = None,
    ) -> "Algorithm":
        """Another algorithm around this one.

        Parameters
        ----------
        init : as in `Algorithm`, of the new state.
        before : ``before(state) -> inner``: the state of this algorithm that a generation starts from.
        after : ``after(state, inner, info) -> (state, info)``: the new state, from the one before the generation and what
            this algorithm made of it.
        definition : what theory reads; this algorithm's unless given. Pass one with ``sigma=None`` if σ changes.

        >>> import jax, jax.numpy as jnp, mutagrad
        >>> def halved(state):
        ...     return state.with_sigma(state.sigma / 2)
        >>> algorithm = mutagrad.elitist(sigma=0.2, num_offspring=4)
        >>> algorithm = algorithm.wrapped(algorithm.init, halved, lambda state, inner, info: (inner, info))
        >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
        >>> round(float(info.sigma), 3)
        0.1
        """

        def ask(key: jax.Array, state: Any, *, is_resampled: Any = True) -> Any:
            return self.ask(key, before(state), is_resampled=is_resampled)

        def tell(key: jax.Array, state: Any, losses: Any, *, is_resampled: Any = True) -> tuple[Any, Info]:
            return after(state, *self.tell(key, before(state), losses, is_resampled=is_resampled))

        def step(
            key: jax.Array, state: Any, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
        ) -> tuple[Any, Info]:
            inner = self.step(key, before(state), loss_fn, is_resampled=is_resampled, evaluation=evaluation)
            return after(state, *inner)

        return Algorithm(init, ask, tell, step, self.definition if definition is None else definition)
