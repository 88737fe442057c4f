"""The algorithm: genomes are evaluated, reproduce by their fitness, mix and mutate; what all carry is the fixed part."""

import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, tree
from mutagrad.algorithms.genomes import bits
from mutagrad.algorithms.genomes.effects import checked_params, checksum_of, density_of
from mutagrad.algorithms.genomes.genomes import FREE, Genomes, GenomeState, effects_of
from mutagrad.algorithms.genomes.reproduction import Rules, Turnover, reproduce
from mutagrad.algorithms.start import Parents
from mutagrad.evaluation.local import Evaluator, resolve
from mutagrad.evaluation.losses import Losses, told
from mutagrad.selection.acceptance import product
from mutagrad.types import Algorithm, LossFn, Mutation, Params, UnknownDefinition

__all__ = ["GenomeInfo", "population"]

RECOMBINATIONS = ("free", "none", "crossover", "transfer")
AT_ONCE = 2**22
"""Numbers of the genomes that are made at once, unless the way of evaluation is given."""


class GenomeInfo(NamedTuple):
    """What one generation of a population did.

    Attributes
    ----------
    losses : (n,) loss of every genome [loss].
    parent_loss : mean of the finite losses [loss].
    loss_differences : (n,) losses less their mean. loss_difference_variances : (n,) sampling variances, 0 for a scalar loss.
    winner : int32, the genome of the lowest loss. is_accepted : bool, whether a mutation was fixed.
    loss_change, validated_change : NaN, since nobody evaluates the fixed part by itself.
    sigma, num_nonfinite, num_examples, is_resampled : as in `mutagrad.Info`.
    normalized_mutation_strength, hessian_trace, squared_grad_norm, squared_grad_noise, gradient_curvature : NaN; they are
        estimates from independent mutants of one parent.
    fitness : (n,) e^{−βU} of every genome over that of the best, 0 where the loss is not finite.
    num_segregating : int32, mutations that some genomes carry and not all, after the generation.
    heterozygosity : Σ 2p(1 − p) over them.
    turnover : in place of ``descent``, `Turnover`: parents of every genome, ages, and mutations that arose, were fixed, or lost.
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
    fitness: jax.Array
    num_segregating: jax.Array
    heterozygosity: jax.Array
    turnover: Turnover


def population(
    sigma: Any,
    beta: Any,
    population_size: int,
    mutation_rate: float,
    *,
    recombination: str = "free",
    recombination_rate: float | None = None,
    num_replaced: int | None = None,
    num_demes: int = 1,
    migration: float = 0.0,
    capacity: int | None = None,
    mutation: Mutation | None = None,
    evaluation: Any = "auto",
) -> Algorithm:
    """A population of n genomes with fitness e^{−βU}: mutations arise, mix, and are fixed or lost.

    Each generation evaluates every genome. Then genomes are born: each has parents drawn by fitness, takes its mutations from
    them, and mutates. A mutation that all genomes carry becomes part of the ancestor. For small effects and genomes that mix,
    this fixed part follows gradient descent, with the learning rate ½μνβσ² a generation:
    `mutagrad.theory.population.learning_rates`.

    The state is a `GenomeState`; its ``params`` are the fixed part. ``ask`` returns `Genomes`, which give the mean genome and the
    genetic covariance along directions.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : strength of selection β ≥ 0 [1/loss].
    population_size : n ≥ 1 genomes.
    mutation_rate : μ ≥ 0, mutations of a genome that is born, in the mean; their number is Poisson distributed.
    recombination : "free", each mutation from either parent by a fair coin; "none", one parent; "crossover", along a chromosome
        on which each mutation has a random place; "transfer", each mutation from a second parent with a small probability.
    recombination_rate : mean number of crossovers, or probability of transfer.
    num_replaced : how many genomes die and are born in a generation. n, the default, is Wright and Fisher's model. 1 is Moran's,
        whose generation here is one birth; where `mutagrad.theory.population` speaks of generations, it has n of them.
    num_demes : D, which divides n. Parents are of the deme of their offspring. Deme d has the genomes from d·n/D on.
    migration : probability that the parents of a genome are of another deme, each of the others alike.
    capacity : how many mutations may segregate at once, rounded up to a multiple of 32. Unless given, six standard deviations
        more than neutral ones in one deme, whose genomes do not mix at all unless ``recombination`` is "free". Mutations beyond
        that do not arise; they are counted in ``state.num_dropped``, and `mutagrad.evolve` warns of them at the end: where demes
        mix little, or what is rare is favoured, pass a larger one. A run that goes on keeps the room of its state, and
        ``state.with_capacity`` gives it more.
    mutation : a density whose noise does not depend on the values that it changes; `mutagrad.mutation.gaussian` unless given.
    evaluation : as in `mutagrad.mutation_selection`; "auto" makes some millions of numbers at once.

    Returns
    -------
    Algorithm

    Raises
    ------
    ValueError : if an argument is outside its domain.

    Domain: haploid genomes. "crossover" and "free" draw both parents by fitness, and they may be one. A fixed mutation is added
    to the ancestor in the dtype of its leaf: in bfloat16 σ must be well above the spacing of the numbers there, or steps are
    lost. A run goes on with the density that it had, since effects are made again from their seeds; another one is refused.

    Source: [S22] third model; theory.md 6.4, tested in tests/algorithms/test_population.py.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.population(sigma=0.05, beta=2.0, population_size=100, mutation_rate=0.1)
    >>> loss_fn = lambda x: jnp.sum(x**2)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(3), loss_fn, 500, progress=False)
    >>> bool(loss_fn(result.params) < 1.0)
    True
    """
    check.scale("sigma", sigma)
    beta = check.inverse_temperature(beta)
    number = check.count("population_size", population_size)
    demes = check.count("num_demes", num_demes)
    if number % demes:
        raise ValueError(f"num_demes: got {demes} for {number} genomes; pass one that divides {number}")
    replaced = number if num_replaced is None else check.count("num_replaced", num_replaced)
    if replaced > number:
        raise ValueError(f"num_replaced: got {replaced} of {number} genomes; pass {number} at most")
    rate = _not_negative("mutation_rate", mutation_rate)
    mixing = _recombination_rate(check.choice("recombination", recombination, RECOMBINATIONS), recombination_rate)
    if not 0 <= _not_negative("migration", migration) <= 1 or (migration and demes == 1):
        raise ValueError(f"migration: got {migration!r} with {demes} demes; pass 0 to 1, and 2 demes or more")
    density = density_of(mutation)
    is_free = recombination == "free"
    room = _usual_capacity(number, replaced, rate, is_free) if capacity is None else check.count("capacity", capacity)
    if number * room > 2**40:
        raise ValueError(
            f"mutation_rate: got {mutation_rate!r}, with room for {room:.2g} mutations; pass less, or a smaller capacity"
        )
    words = bits.words_for(room)
    resolve(evaluation)
    rules = Rules(rate, recombination, mixing, replaced, demes, float(migration))

    def init(params: Params, loss_fn: LossFn | None = None) -> GenomeState:
        if isinstance(params, Parents):
            raise ValueError(
                f"params: got {params.number} parents; pass one tree of params: all genomes start from one, without variation"
            )
        params = checked_params(density, params)
        slots = words * bits.WORD
        scale = jnp.asarray(sigma, jnp.result_type(float))
        return GenomeState(
            ancestor=params,
            carriers=jnp.zeros((number, words), jnp.uint32),
            seeds=jnp.zeros((slots, 2), jnp.uint32),
            scales=jnp.zeros(slots, scale.dtype),
            births=jnp.full(slots, FREE, jnp.int32),
            sigma=scale,
            generation=jnp.zeros((), jnp.int32),
            num_dropped=jnp.zeros((), jnp.int32),
            density=jnp.asarray(checksum_of(density, params), jnp.uint32),
        )

    def ask(key: jax.Array, state: GenomeState, *, is_resampled: Any = True) -> Genomes:
        check.key(key)
        _check_size(state)
        _check_density(state)
        return genomes_of(state)

    @jax.jit
    def genomes_of(state: GenomeState) -> Genomes:
        return Genomes(state.ancestor, state.carriers, effects_of(density.sample_fn, state))

    def tell(key: jax.Array, state: GenomeState, losses: Any, *, is_resampled: Any = True) -> tuple[GenomeState, Any]:
        _check_size(state)
        return told_step(check.key(key), state, told(losses, number, None), is_resampled)

    def _check_size(state: GenomeState) -> None:
        if state.population_size != number:
            raise ValueError(
                f"state: got {state.population_size} genomes for a population of {number}; pass one of {number} genomes: "
                "state.with_genomes(indices) takes some of them"
            )
        if capacity is not None and state.capacity != words * bits.WORD:
            raise ValueError(
                f"state: got one with room for {state.capacity} mutations and capacity={capacity}; pass "
                f"state.with_capacity({capacity}), where that is more, or leave the capacity out"
            )

    def _check_density(state: GenomeState) -> None:
        if check.is_concrete(state.density) and int(state.density) != checksum_of(density, state.ancestor):
            raise ValueError(
                f"mutation: got {density!r} for a state whose mutations are of another density, which their seeds would make "
                "anew; pass the density of the run that made it"
            )

    @jax.jit
    def told_step(
        key: jax.Array, state: GenomeState, losses: Losses, is_resampled: Any
    ) -> tuple[GenomeState, GenomeInfo]:
        # Demes compete within themselves: one that is far behind the best must not lose its differences to rounding.
        after, turnover = reproduce(key, state, _fitness(losses, beta, demes), rules, density.sample_fn)
        return after, _info(losses, _fitness(losses, beta), state, after, turnover, is_resampled)

    def step(
        key: jax.Array, state: GenomeState, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
    ) -> tuple[GenomeState, Any]:
        genomes = ask(key, state)
        evaluator = _in_chunks(resolve(evaluation, own_evaluation), state)
        losses = told(evaluator.evaluate_fn(loss_fn, genomes), number, None)  # type: ignore[arg-type]  # candidates, as Offspring are
        return told_step(check.key(key), state, losses, is_resampled)

    own_evaluation = evaluation
    reason = (
        "a population of genomes has no single mutation that selection judges; mutagrad.theory.population has its laws"
    )
    return Algorithm(init, ask, tell, step, UnknownDefinition(reason))


def _in_chunks(evaluator: Evaluator, state: GenomeState) -> Evaluator:
    """The evaluator, "auto" being as many genomes at once as are some millions of numbers."""
    if evaluator.mode != "auto":
        return evaluator
    at_once = AT_ONCE // max(tree.num_entries(state.ancestor), 1)
    return resolve("vectorized" if at_once >= state.population_size else max(1, at_once))


def _fitness(losses: Losses, beta: Any, num_groups: int = 1) -> jax.Array:
    """(n,) e^{−β(U − U_min)}, 0 where a loss is not finite; U_min is that of a genome's group, of so many side by side."""
    is_finite = jnp.isfinite(losses.means) & jnp.isfinite(losses.differences)
    rows = jnp.where(is_finite, losses.differences, jnp.inf).reshape(num_groups, -1)
    best = jnp.broadcast_to(jnp.min(rows, axis=1, keepdims=True), rows.shape).reshape(-1)
    above = jnp.where(is_finite, losses.differences - best, 0)
    return jnp.where(is_finite, jnp.exp(-product(beta, above)), 0)


def _info(
    losses: Losses, fitness: jax.Array, before: GenomeState, after: GenomeState, turnover: Turnover, is_resampled: Any
) -> GenomeInfo:
    is_finite = jnp.isfinite(losses.means)
    count = jnp.sum(is_finite, dtype=losses.means.dtype)
    mean = jnp.sum(jnp.where(is_finite, losses.means, 0)) / count
    shift = jnp.sum(jnp.where(is_finite, losses.differences, 0)) / count
    unknown = jnp.full((), jnp.nan, losses.means.dtype)
    return GenomeInfo(
        losses=losses.means,
        parent_loss=mean,
        loss_differences=losses.differences - shift,
        loss_difference_variances=losses.variances,
        winner=jnp.argmin(jnp.where(is_finite, losses.differences, jnp.inf)).astype(jnp.int32),
        is_accepted=turnover.num_fixed > 0,
        loss_change=unknown,
        validated_change=unknown,
        sigma=before.sigma,
        num_nonfinite=jnp.sum(~is_finite, dtype=jnp.int32),
        num_examples=jnp.asarray(losses.num_examples, jnp.int32),
        is_resampled=jnp.asarray(is_resampled, bool),
        normalized_mutation_strength=unknown,
        hessian_trace=unknown,
        squared_grad_norm=unknown,
        squared_grad_noise=unknown,
        gradient_curvature=unknown,
        fitness=fitness,
        num_segregating=jnp.sum(after.is_segregating, dtype=jnp.int32),
        heterozygosity=after.heterozygosity,
        turnover=turnover,
    )


def _usual_capacity(number: int, replaced: int, rate: float, is_free: bool) -> float:
    """Neutral mutations that segregate, 2nμ(ln n + 1) in Wright and Fisher's model and half in Moran's, with room for chance.

    Mutations that mix freely come and go each by itself. Linked ones share the tree of the genomes, whose length adds
    θ² Σ 1/i² to the variance, with θ = 2nμ (Watterson 1975).
    """
    theta = 2 * number * rate
    usual = theta * (math.log(number) + 1)
    shared = 0 if is_free else sum((theta / i) ** 2 for i in range(1, min(number, 1000)))
    return usual + 6 * math.sqrt(usual + shared) + 2 * replaced * rate + bits.WORD


def _not_negative(name: str, value: float) -> float:
    is_number = not isinstance(value, bool) and (isinstance(value, numbers.Real) or getattr(value, "shape", None) == ())
    if not (is_number and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: got {value!r}; pass a finite number of 0 or more")
    return float(value)


def _recombination_rate(recombination: str, rate: float | None) -> float:
    if recombination in ("free", "none"):
        if rate is not None:
            raise ValueError(f"recombination_rate: got {rate!r} with {recombination!r}, which has none; leave it out")
        return 0.5 if recombination == "free" else 0.0
    what = "the mean number of crossovers" if recombination == "crossover" else "a probability, from 0 to 1"
    if rate is None or _not_negative("recombination_rate", rate) > (math.inf if recombination == "crossover" else 1):
        raise ValueError(f"recombination_rate: got {rate!r} with {recombination!r}; pass {what}")
    return float(rate)
