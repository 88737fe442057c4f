"""Several algorithms that take turns with one parent, or one algorithm with the parts of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check
from mutagrad.algorithms.generation import common_descent
from mutagrad.evaluation.losses import number_told
from mutagrad.offspring import Offspring
from mutagrad.types import Algorithm, Definition, Info, LossFn, Params, UnknownDefinition

__all__ = ["AlternateState", "alternate", "rotate"]


class AlternateState(NamedTuple):
    """The parent, and what each of the algorithms remembers.

    Attributes
    ----------
    params : pytree, the parent that all of them share.
    states : the state of each algorithm, with ``None`` for its params.
    generation : int32 scalar, generations completed, of all algorithms together.
    sigma : mutation scale of the generation completed last; of the first algorithm at the start.
    """

    params: Params
    states: tuple
    generation: jax.Array
    sigma: jax.Array

    def with_params(self, params: Params) -> "AlternateState":
        """The same state with another parent."""
        return self._replace(params=params)

    def with_sigma(self, sigma: jax.Array) -> "AlternateState":
        """The same state with one mutation scale for all algorithms."""
        return self._replace(states=tuple(state.with_sigma(sigma) for state in self.states), sigma=sigma)

    def own(self, index: int) -> Any:
        """The state of one of the algorithms, with the common parent."""
        return self.states[index].with_params(self.params)

    def after(self, index: int, own: Any, info: Info) -> "AlternateState":
        """The state after a generation of one of the algorithms, and what it reported."""
        states = (*self.states[:index], own.with_params(None), *self.states[index + 1 :])
        return AlternateState(own.params, states, self.generation + 1, info.sigma)


def alternate(algorithms: Sequence[Algorithm], generations: Sequence[int] | None = None) -> Algorithm:
    """Let algorithms take turns: so many generations of the first, so many of the second, and round again.

    With `mutagrad.mutation.masked` this is descent by groups of parameters. At its best σ a group of leaves l gains
    G_M(s*) |g_l|²/TrH_l a generation, g_l and H_l being the gradient and the Hessian of its own parameters. In a ReLU network
    that ratio was found the same within a factor of 2 for its early and its late layers and for all together, so that
    those that are cheap to evaluate may as well be mutated most of the time (verification/results/layers.md).

    Parameters
    ----------
    algorithms : two or more with one parent and the same number of offspring. Wrap each in `mutagrad.adapt_sigma`, and
        each holds a σ of its own. A state of your own needs the methods of `mutagrad.State`. Let them mutate different leaves:
        where batches change, an algorithm is credited with all that its leaves have gained since its last turn.
    generations : how many generations each has in a round, whole numbers of 1 or more; 1 each unless given.

    Returns
    -------
    Algorithm, whose state is an `AlternateState`; theory has no answer for it, but for each of the algorithms.

    Raises
    ------
    ValueError : if there are fewer than two algorithms, ``generations`` does not fit them, they differ in their number of
        offspring, or one has several parents or keeps the parent's loss.

    Source: derived for this project (theory.md 3, per group of parameters); `verification/layers.py` measures the ratio.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> def only(name):
    ...     mutation = mutagrad.mutation.masked({"a": name == "a", "b": name == "b"})
    ...     return mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=8, mutation=mutation))
    >>> algorithm = mutagrad.alternate([only("a"), only("b")], [3, 1])
    >>> params = {"a": jnp.ones(5), "b": jnp.ones(5)}
    >>> loss_fn = lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, params, loss_fn, 80, progress=False)
    >>> bool(loss_fn(result.params) < 1)
    True
    """
    algorithms = tuple(algorithms)
    if len(algorithms) < 2:
        raise ValueError(f"algorithms: got {len(algorithms)}; pass two or more")
    generations = (1,) * len(algorithms) if generations is None else tuple(generations)
    if len(generations) != len(algorithms):
        raise ValueError(f"generations: got {len(generations)} numbers for {len(algorithms)} algorithms; pass one each")
    counts = [check.count("generations", number) for number in generations]
    definitions = [_check_single("algorithms", algorithm) for algorithm in algorithms]
    numbers = [definition.num_offspring for definition in definitions]
    if len(set(numbers)) > 1:
        raise ValueError(f"algorithms: got {', '.join(map(str, numbers))} offspring; give all the same number")
    turns = np.repeat(np.arange(len(algorithms)), counts)

    def init(params: Params, loss_fn: LossFn | None = None) -> AlternateState:
        states = [algorithm.init(params, loss_fn) for algorithm in algorithms]
        return _start(states[0].params, tuple(state.with_params(None) for state in states))

    def by_turn(state: AlternateState, turn_fn: Callable[[int], Callable]) -> Any:
        if check.is_concrete(state.generation):
            return turn_fn(int(turns[int(state.generation) % len(turns)]))(state)
        turn, unified = jnp.asarray(turns)[state.generation % len(turns)], common_descent(definitions)

        def alike(index: int, state: AlternateState) -> tuple[AlternateState, Info]:
            after, info = turn_fn(index)(state)
            return after, info._replace(descent=unified(info.descent))

        return jax.lax.switch(turn, [partial(alike, index) for index in range(len(algorithms))], state)

    def ask(key: jax.Array, state: AlternateState, *, is_resampled: Any = True) -> Offspring:
        if not check.is_concrete(state.generation):
            raise ValueError(
                "ask: got a traced state of algorithms that take turns, whose candidates are of one of them; call ask outside "
                "jit, or step inside"
            )
        index = int(turns[int(state.generation) % len(turns)])
        return algorithms[index].ask(key, state.own(index), is_resampled=is_resampled)

    def told_by(tell_fn: Callable[[int, Any], tuple[Any, Info]]) -> Callable[[int], Callable]:
        def turn_of(index: int) -> Callable:
            def turn(state: AlternateState) -> tuple[AlternateState, Info]:
                own, info = tell_fn(index, state.own(index))
                return state.after(index, own, info), info

            return turn

        return turn_of

    def tell(
        key: jax.Array, state: AlternateState, losses: Any, *, is_resampled: Any = True
    ) -> tuple[AlternateState, Info]:
        fitting = [losses] * len(algorithms)
        if not check.is_concrete(state.generation):
            fitting = _by_number(losses, [(one, state.own(index)) for index, one in enumerate(algorithms)], key)

        def told(index: int, own: Any) -> tuple[Any, Info]:
            return algorithms[index].tell(key, own, fitting[index], is_resampled=is_resampled)

        return by_turn(state, told_by(told))

    def step(
        key: jax.Array, state: AlternateState, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
    ) -> tuple[AlternateState, Info]:
        def stepped(index: int, own: Any) -> tuple[Any, Info]:
            return algorithms[index].step(key, own, loss_fn, is_resampled=is_resampled, evaluation=evaluation)

        return by_turn(state, told_by(stepped))

    reason = "got algorithms that take turns, which have no single law; ask theory for each of them"
    return Algorithm(init, ask, tell, step, UnknownDefinition(reason))


def _by_number(losses: Any, algorithms: Sequence[tuple[Algorithm, Any]], key: jax.Array) -> list[Any]:
    """Losses for each algorithm, where a program has all of them: one that takes another number has not its turn."""

    def numbers(algorithm: Algorithm, own: Any) -> list[int]:
        return [len(algorithm.ask(key, own, is_resampled=which)) for which in (True, False)]

    told, taken = number_told(losses), [numbers(*one) for one in algorithms]
    if not any(told in one for one in taken):
        return [losses] * len(taken)

    def of_number(number: int) -> Any:
        return jax.tree.map(
            lambda column: jnp.resize(column, (number, *column.shape[1:])) if jnp.ndim(column) else column, losses
        )

    return [losses if told in one else of_number(one[0]) for one in taken]


def rotate(algorithm: Algorithm, rotate_fn: Callable[[Params], Params], number: int, generations: int = 1) -> Algorithm:
    """Let the groups of parameters of a symmetric loss take turns: one algorithm, compiled once, for all of them.

    Where ``number`` groups of parameters may be exchanged without changing the loss, as the hidden units of a network may, an
    algorithm that mutates the first of them (`mutagrad.mutation.masked`) does for all, if after each turn
    ``rotate_fn`` brings the next to the first place. Each group has an algorithm's memory of its own, thus its own σ under
    `mutagrad.adapt_sigma`. At its best σ a group gains in proportion to |g_l|²/TrH_l, that is for equal groups what all of them
    gain together, while its offspring share what the others compute.

    A turn should be short against the generations that are worth a step of gradient descent, TrH/λ_max/2G for one group
    (theory.md 4): after so many its steepest directions are used up, and another group gains more.

    Parameters
    ----------
    algorithm : with one parent; it mutates the first group, and whatever else it should.
    rotate_fn : ``rotate_fn(params) -> params`` of the same structure, a symmetry of the loss; ``number`` times, it changes
        nothing.
    number : how many groups there are, 1 or more.
    generations : of a turn, 1 or more.

    Returns
    -------
    Algorithm, whose state is an `AlternateState` with a memory of each group, that of the group whose turn it is first. Its
    params are rotated by as many places as turns have ended, the last when the next begins.

    Raises
    ------
    ValueError : if the algorithm has several parents or keeps the parent's loss; at ``init``, if ``rotate_fn`` changes the
        structure, shapes or dtypes of the params, or does not return to the start after ``number`` times.

    Source: derived for this project (theory.md 3, per group of parameters).

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> mutation = mutagrad.mutation.masked([True, False, False])
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=8, mutation=mutation))
    >>> algorithm = mutagrad.rotate(algorithm, lambda groups: [*groups[1:], groups[0]], number=3)
    >>> params, loss_fn = [jnp.ones(5)] * 3, lambda groups: sum(jnp.sum(group**2) for group in groups)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, params, loss_fn, 120, progress=False)
    >>> bool(loss_fn(result.params) < 1)
    True
    """
    number, generations = check.count("number", number), check.count("generations", generations)
    _check_single("algorithm", algorithm)

    def init(params: Params, loss_fn: LossFn | None = None) -> AlternateState:
        state = algorithm.init(params, loss_fn)
        _check_rotation(rotate_fn, state.params, number)
        memories, rotated = [state.with_params(None)], state.params
        for _ in range(number - 1):
            rotated = rotate_fn(rotated)
            memories.append(algorithm.init(rotated, loss_fn).with_params(None))
        return _start(state.params, tuple(memories))

    def before(state: AlternateState) -> AlternateState:
        has_ended = (state.generation > 0) & (state.generation % generations == 0)

        def rotated(state: AlternateState) -> AlternateState:
            return state._replace(params=rotate_fn(state.params), states=(*state.states[1:], state.states[0]))

        if check.is_concrete(has_ended):
            return rotated(state) if has_ended else state
        return jax.lax.cond(has_ended, rotated, lambda state: state, state)

    def ask(key: jax.Array, state: AlternateState, *, is_resampled: Any = True) -> Offspring:
        return algorithm.ask(key, before(state).own(0), is_resampled=is_resampled)

    def tell(
        key: jax.Array, state: AlternateState, losses: Any, *, is_resampled: Any = True
    ) -> tuple[AlternateState, Info]:
        state = before(state)
        own, info = algorithm.tell(key, state.own(0), losses, is_resampled=is_resampled)
        return state.after(0, own, info), info

    def step(
        key: jax.Array, state: AlternateState, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
    ) -> tuple[AlternateState, Info]:
        state = before(state)
        own, info = algorithm.step(key, state.own(0), loss_fn, is_resampled=is_resampled, evaluation=evaluation)
        return state.after(0, own, info), info

    reason = (
        "got groups of parameters that take turns, each with a σ of its own; ask theory for the algorithm of one group"
    )
    return Algorithm(init, ask, tell, step, UnknownDefinition(reason))


def _start(params: Params, memories: tuple) -> AlternateState:
    return AlternateState(params, memories, jnp.zeros((), jnp.int32), memories[0].sigma)


def _check_single(name: str, algorithm: Algorithm) -> Definition:
    definition = check.algorithm(algorithm, name).definition
    if isinstance(definition, UnknownDefinition):
        raise ValueError(f"{name}: got one in which others take turns already; pass each of them")
    if definition.selection.num_parents > 1:
        raise ValueError(
            f"{name}: got {definition.selection.name} with {definition.selection.num_parents} parents; pass algorithms with one"
        )
    if not definition.reevaluate_parent:
        raise ValueError(
            f"{name}: got one with reevaluate_parent=False, whose kept loss would be that of a parent of earlier "
            "generations; build it with reevaluate_parent=True"
        )
    return definition


def _check_rotation(rotate_fn: Callable[[Params], Params], params: Params, number: int) -> None:
    def kind(leaf: jax.ShapeDtypeStruct) -> tuple:
        return leaf.shape, leaf.dtype

    before, after = (jax.tree.map(kind, jax.eval_shape(fn, params)) for fn in (lambda same: same, rotate_fn))
    if before != after:
        raise ValueError(
            "rotate_fn: got other params back than went in; return the same structure, shapes and dtypes, in another order"
        )
    back = params
    for _ in range(number):
        back = rotate_fn(back)
    for start, end in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        is_same = end is start or jnp.array_equal(end, start, equal_nan=True)
        if check.is_concrete(is_same) and not is_same:
            raise ValueError(
                f"number: got {number}, and rotate_fn so many times does not lead back to the start; pass the number of "
                "groups that it brings round"
            )
