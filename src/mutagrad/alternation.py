"""Several algorithms that take turns with one parent, or one algorithm with the parts of it."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check
from mutagrad.types import Algorithm, Info, LossFn, Params, Turns

__all__ = ["AlternateState", "alternate", "rotate"]


class AlternateState(NamedTuple):
    """The parent, and what each of the algorithms remembers.

    Attributes
    ----------
    params : pytree, the parent that all of them share.
    states : the state of each algorithm, with ``None`` for its params.
    generation : int32 scalar, generations completed, of all algorithms together.
    sigma : mutation strength of the generation completed last; of the first algorithm at the start.
    expected_loss : of the parent on the batch of the generation completed last; NaN at the start.
    """

    params: Params
    states: tuple
    generation: jax.Array
    sigma: jax.Array
    expected_loss: jax.Array

    def with_params(self, params: Params) -> "AlternateState":
        """The same state with another parent."""
        return self._replace(params=params)

    def with_sigma(self, sigma: jax.Array) -> "AlternateState":
        """The same state with one mutation strength for all algorithms."""
        return self._replace(states=tuple(state.with_sigma(sigma) for state in self.states), sigma=sigma)

    def with_expected_loss(self, loss: jax.Array) -> "AlternateState":
        """The same state of a parent that had this loss on the batch before."""
        return self._replace(expected_loss=loss.astype(self.expected_loss.dtype))

    def handed_to(self, memory: Any) -> Any:
        """The common parent, and what it is expected to lose, with the memory of the algorithm whose turn it is."""
        return memory.with_params(self.params).with_expected_loss(self.expected_loss)

    def rotated(self, rotate_fn: Callable[[Params], Params]) -> "AlternateState":
        """The same state with the next group of parameters, and the memory of it, in the first place."""
        return self._replace(params=rotate_fn(self.params), states=(*self.states[1:], self.states[0]))

    def after(self, own: Any, states: Any, info: Info) -> "AlternateState":
        """The state after a turn: ``own`` of the algorithm that had it, the memories of all, and what it reported."""
        expected = (info.parent_loss + info.loss_change).astype(self.expected_loss.dtype)
        return AlternateState(own.params, states, self.generation + 1, info.sigma, expected)


def alternate(algorithms: Sequence[Algorithm], generations: Sequence[int] | None = None) -> Algorithm:
    """Let algorithms take turns: so many generations of the first, so many of the second, and round again.

    With `mutagrad.mutation.masked` this is descent by groups of parameters. At its best σ a group of leaves l gains
    G_M(s*) |g_l|²/TrH_l a generation, g_l and H_l being the gradient and the Hessian of its own parameters. In a ReLU network
    that ratio was found the same within a factor of 1.7 for its early and its late layers and for all together, so that
    those that are cheap to evaluate may as well be mutated most of the time (verification/results/layers.md).

    Parameters
    ----------
    algorithms : two or more with one parent and the same number of offspring. Wrap each in `mutagrad.adapt_sigma`, and
        each holds a σ of its own. A state of your own needs the methods of `mutagrad.State`.
    generations : how many generations each has in a round, whole numbers of 1 or more; 1 each unless given.

    Returns
    -------
    Algorithm, whose state is an `AlternateState`; ``parts`` are those of the first.

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
    for algorithm in algorithms:
        if algorithm.definition.num_offspring != algorithms[0].definition.num_offspring:
            raise ValueError(
                f"algorithms: got {algorithms[0].definition.num_offspring} and {algorithm.definition.num_offspring} offspring; give "
                "all the same number"
            )
        _check_single("algorithms", algorithm)
    turns = np.repeat(np.arange(len(algorithms)), counts)

    def init(params: Params, loss_fn: LossFn | None = None) -> AlternateState:
        states = [algorithm.init(params, loss_fn) for algorithm in algorithms]
        kept = tuple(state.with_params(None) for state in states)
        return _start(states[0].params, kept)

    def step(key: jax.Array, state: AlternateState, loss_fn: LossFn) -> tuple[AlternateState, Info]:
        def turn_of(index: int) -> Any:
            def turn(state: AlternateState) -> tuple[AlternateState, Info]:
                own, info = algorithms[index].step(key, state.handed_to(state.states[index]), loss_fn)
                before, after = state.states[:index], state.states[index + 1 :]
                states = tuple(itertools.chain(before, (own.with_params(None),), after))
                return state.after(own, states, info), info

            return turn

        turn = jnp.asarray(turns)[state.generation % len(turns)]
        return jax.lax.switch(turn, [turn_of(index) for index in range(len(algorithms))], state)

    return Algorithm(init, step, algorithms[0].definition)


def rotate(algorithm: Algorithm, rotate_fn: Callable[[Params], Params], number: int, generations: int = 1) -> Algorithm:
    """Let the groups of parameters of a symmetric loss take turns: one algorithm, compiled once, for all of them.

    Where ``number`` groups of parameters may be exchanged without changing the loss, as the hidden units of a network may, an
    algorithm that mutates the first of them (`mutagrad.mutation.masked`) does for all, if after each turn
    ``rotate_fn`` brings the next to the first place. Each group has an algorithm's memory of its own, thus its own σ under
    `mutagrad.adapt_sigma`. At its best σ a group gains in proportion to |g_l|²/TrH_l, that is for equal groups what all of them
    gain together, while its offspring share what the others compute.

    In a turn of several generations `mutagrad.evolve` computes what the others do once for all of them, if the data are the
    same too: where there are no batches, or all the data are one. A turn should be short against the generations that are
    worth a step of gradient descent, TrH/λ_max/2G for one group (theory.md 4): after so many its steepest directions are
    used up, and another group gains more.

    Parameters
    ----------
    algorithm : with one parent; it mutates the first group, and whatever else it should.
    rotate_fn : ``rotate_fn(params) -> params`` of the same structure, a symmetry of the loss; ``number`` times, it changes
        nothing.
    number : how many groups there are, 1 or more.
    generations : of a turn, 1 or more.

    Returns
    -------
    Algorithm, whose state is an `AlternateState` with a memory of each group, that of the group whose turn it is first;
    ``parts`` are those of ``algorithm``. Its params are rotated by as many places as turns have ended, the last when the next
    begins.

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
        return _start(state.params, (state.with_params(None),) * number)

    def within(key: jax.Array, state: AlternateState, loss_fn: LossFn) -> tuple[AlternateState, Info]:
        own, info = algorithm.step(key, state.handed_to(state.states[0]), loss_fn)
        return state.after(own, (own.with_params(None), *state.states[1:]), info), info

    turns = Turns(generations, rotate_fn, within)

    def step(key: jax.Array, state: AlternateState, loss_fn: LossFn) -> tuple[AlternateState, Info]:
        return within(key, turns.begin(state), loss_fn)

    return Algorithm(init, step, algorithm.definition, turns)


def _start(params: Params, memories: tuple) -> AlternateState:
    sigma = memories[0].sigma
    return AlternateState(params, memories, jnp.zeros((), jnp.int32), sigma, jnp.full_like(sigma, jnp.nan))


def _check_single(name: str, algorithm: Algorithm) -> None:
    parts = algorithm.definition
    if parts.selection.num_winners > 1:
        raise ValueError(
            f"{name}: got {parts.selection.name} with {parts.selection.num_winners} parents; pass algorithms with one"
        )
    if not parts.reevaluate_parent:
        raise ValueError(
            f"{name}: got one with reevaluate_parent=False, whose kept loss would be that of a parent of earlier "
            "generations; build it with reevaluate_parent=True"
        )


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
