"""Several algorithms that take turns with one parent."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check
from mutagrad.types import Algorithm, Info, LossFn, Params

__all__ = ["AlternateState", "alternate"]


class AlternateState(NamedTuple):
    """The parent, and what each of the algorithms remembers.

    Attributes
    ----------
    params : pytree, the parent that all of them share.
    states : the state of each algorithm, with ``None`` for its params.
    generation : int32 scalar, generations completed, of all algorithms together.
    sigma : mutation strength of the generation completed last; of the first algorithm at the start.
    """

    params: Params
    states: tuple
    generation: jax.Array
    sigma: jax.Array

    def with_params(self, params: Params) -> "AlternateState":
        """The same state with another parent."""
        return self._replace(params=params)

    def with_sigma(self, sigma: jax.Array) -> "AlternateState":
        """The same state with one mutation strength for all algorithms."""
        return self._replace(states=tuple(state.with_sigma(sigma) for state in self.states), sigma=sigma)


def alternate(algorithms: Sequence[Algorithm], generations: Sequence[int] | None = None) -> Algorithm:
    """Let algorithms take turns: so many generations of the first, so many of the second, and round again.

    With `mutagrad.mutation.masked` this is descent by groups of parameters. At its best σ a group of leaves l gains
    G_M(s*) |g_l|²/TrH_l a generation, g_l and H_l being the gradient and the Hessian of its own parameters. In a ReLU network
    that ratio was found the same within a factor of 1.7 for its early and its late layers and for all together, so that
    those that are cheap to evaluate may as well be mutated most of the time (verification/results/layers.md).

    Parameters
    ----------
    algorithms : two or more with one parent and the same number of offspring. Wrap each in `mutagrad.adapt_sigma`, and
        each holds a σ of its own.
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
        parts = algorithm.parts
        if parts.num_offspring != algorithms[0].parts.num_offspring:
            raise ValueError(
                f"algorithms: got {algorithms[0].parts.num_offspring} and {parts.num_offspring} offspring; give all the "
                "same number"
            )
        if parts.selection.num_winners > 1:
            raise ValueError(
                f"algorithms: got {parts.selection.name} with {parts.selection.num_winners} parents; pass algorithms "
                "with one"
            )
        if not parts.reevaluate_parent:
            raise ValueError(
                "algorithms: got one with reevaluate_parent=False, whose kept loss would be that of a parent of "
                "earlier generations; build it with reevaluate_parent=True"
            )
    turns = np.repeat(np.arange(len(algorithms)), counts)

    def init(params: Params, loss_fn: LossFn | None = None) -> AlternateState:
        states = [algorithm.init(params, loss_fn) for algorithm in algorithms]
        kept = tuple(state.with_params(None) for state in states)
        return AlternateState(states[0].params, kept, jnp.zeros((), jnp.int32), states[0].sigma)

    def step(key: jax.Array, state: AlternateState, loss_fn: LossFn) -> tuple[AlternateState, Info]:
        def turn_of(index: int) -> Any:
            def turn(state: AlternateState) -> tuple[AlternateState, Info]:
                own, info = algorithms[index].step(key, state.states[index].with_params(state.params), loss_fn)
                before, after = state.states[:index], state.states[index + 1 :]
                states = tuple(itertools.chain(before, (own.with_params(None),), after))
                return AlternateState(own.params, states, state.generation + 1, info.sigma), info

            return turn

        turn = jnp.asarray(turns)[state.generation % len(turns)]
        return jax.lax.switch(turn, [turn_of(index) for index in range(len(algorithms))], state)

    return Algorithm(init, step, algorithms[0].parts)
