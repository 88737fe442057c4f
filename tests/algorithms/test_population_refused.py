"""What a population of genomes refuses, each in one line."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"population_size": 0}, "population_size: got 0"),
        ({"mutation_rate": -1}, "mutation_rate: got -1; pass a finite number of 0 or more"),
        ({"mutation_rate": math.nan}, "mutation_rate: got nan"),
        ({"sigma": 0.0}, "sigma: got 0.0"),
        ({"beta": -1.0}, "beta: got -1.0"),
        ({"recombination": "some"}, "recombination: got 'some'; pass one of free, none, crossover, transfer"),
        ({"recombination": "crossover"}, "recombination_rate: got None with 'crossover'; pass the mean number"),
        ({"recombination_rate": 0.5}, "recombination_rate: got 0.5 with 'free', which has none"),
        ({"recombination": "transfer", "recombination_rate": 1.5}, "recombination_rate: got 1.5 with 'transfer'"),
        ({"num_replaced": 11}, "num_replaced: got 11 of 10 genomes"),
        ({"num_demes": 3}, "num_demes: got 3 for 10 genomes; pass one that divides 10"),
        ({"migration": 0.1}, "migration: got 0.1 with 1 demes"),
        ({"num_demes": 2, "migration": 1.1}, "migration: got 1.1 with 2 demes"),
        ({"capacity": 0}, "capacity: got 0"),
        (
            {"mutation": mutagrad.mutation.discrete(range(3))},
            "mutation: got discrete gaussian, whose mutations depend on the value",
        ),
        ({"mutation": "gaussian"}, "mutation: got 'gaussian'"),
        ({"evaluation": "fast"}, "evaluation: got 'fast'"),
    ],
)
def test_what_is_refused(arguments, words):
    usual = {"sigma": 0.1, "beta": 1.0, "population_size": 10, "mutation_rate": 0.1}
    with pytest.raises(ValueError, match=words):
        mutagrad.population(**(usual | arguments))


def test_several_parents_are_refused():
    algorithm = mutagrad.population(0.1, 1.0, 8, 0.1)
    with pytest.raises(ValueError, match="params: got 2 parents; pass one tree of params"):
        algorithm.init(mutagrad.parents([jnp.zeros(2), jnp.ones(2)]))


def test_a_wrong_number_of_losses():
    algorithm = mutagrad.population(0.1, 1.0, 8, 0.1)
    with pytest.raises(ValueError, match=r"losses: got shape \(7,\) for 8 candidates"):
        algorithm.tell(jax.random.key(0), algorithm.init(jnp.zeros(2)), np.zeros(7))


def test_a_state_of_another_size_is_refused():
    state = mutagrad.population(0.1, 1.0, 20, 0.5).init(jnp.zeros(2))
    other = mutagrad.population(0.1, 1.0, 10, 0.5)
    with pytest.raises(
        ValueError, match=r"^state: got 20 genomes for a population of 10; pass one of 10 genomes: state"
    ):
        other.step(jax.random.key(0), state, lambda x: jnp.sum(x))


def test_noise_that_an_effect_cannot_be_made_of_again_is_refused():
    reads = mutagrad.Mutation(lambda key, params: params * jax.random.normal(key, params.shape), "reads")
    with pytest.raises(ValueError, match="^mutation: got reads, whose noise depends on the params"):
        mutagrad.population(0.1, 1.0, 10, 0.1, mutation=reads).init(jnp.ones(3))
    scalar = mutagrad.Mutation(lambda key, params: {"w": jnp.ones(()), "n": None}, "scalar")
    with pytest.raises(
        ValueError, match=r"^mutation: got scalar with noise of shape \(\) for params\['w'\]; return one of"
    ):
        mutagrad.population(0.1, 1.0, 10, 0.1, mutation=scalar).init({"w": jnp.ones(3), "n": jnp.arange(2)})


@pytest.mark.parametrize("inside", [False, True])
def test_any_other_density_begins_in_a_program_or_before_it(inside):
    for mutation in (
        None,
        mutagrad.mutation.rademacher(),
        mutagrad.mutation.student_t(5.0),
        mutagrad.mutation.sphere(),
    ):
        init = mutagrad.population(0.1, 1.0, 10, 0.1, mutation=mutation).init
        state = (jax.jit(lambda params, init=init: init(jnp.ones(3))) if inside else init)(jnp.ones(3))
        assert state.population_size == 10


def test_a_state_of_another_density_is_refused():
    one = mutagrad.population(0.1, 1.0, 10, 0.1)
    other = mutagrad.population(0.1, 1.0, 10, 0.1, mutation=mutagrad.mutation.rademacher())
    state = one.init(jnp.ones(3))
    words = "^mutation: got rademacher for a state whose mutations are of another density"
    with pytest.raises(ValueError, match=words):
        other.ask(jax.random.key(0), state)
    with pytest.raises(ValueError, match=words):
        mutagrad.evolve(jax.random.key(0), other, state, jnp.sum, 5, progress=False)


def test_densities_are_told_apart_by_their_noise_and_not_by_their_names():
    named = [mutagrad.Mutation(lambda key, x, k=k: k * jax.random.normal(key, x.shape), "user") for k in (1.0, 2.0)]
    scaled = [mutagrad.mutation.scaled(k) for k in (2, 2.0)]
    one, other, whole, real = (
        mutagrad.population(0.1, 1.0, 10, 0.1, mutation=density) for density in (*named, *scaled)
    )
    with pytest.raises(ValueError, match="^mutation: got user for a state whose mutations are of another density"):
        other.ask(jax.random.key(0), one.init(jnp.ones(3)))
    assert len(real.ask(jax.random.key(0), whole.init(jnp.ones(3)))) == 10


@pytest.mark.parametrize("indices", [[], [0.5], [-1], [10], 3, [[0]], [True]])
def test_what_are_no_genomes_is_refused(indices):
    state = mutagrad.population(0.1, 1.0, 10, 0.1).init(jnp.ones(3))
    with pytest.raises(ValueError, match="^indices: got .* of 10 genomes; pass a list of indices from 0 to 9"):
        state.with_genomes(indices)


def test_a_seed_is_two_words_of_one_mutation():
    for seed in ([1], [1, 2, 3], [1, 2**32], [-1, 2], [0.5, 1.0], "ab", np.zeros((3, 2), np.uint32)):
        with pytest.raises(ValueError, match=r"^seed: got .*; pass the two words of one mutation"):
            mutagrad.mutation_effect(seed, 0.1, jnp.zeros(2))
    with pytest.raises(ValueError, match="^sigma: got 0.0"):
        mutagrad.mutation_effect([1, 2], 0.0, jnp.zeros(2))
    with pytest.raises(ValueError, match="^mutation: got discrete gaussian, whose mutations depend on the value"):
        mutagrad.mutation_effect([1, 2], 0.1, jnp.zeros(2), mutagrad.mutation.discrete(range(3)))


def test_rates_are_numbers_of_any_kind():
    for rate in (np.float32(0.5), np.int64(1), jnp.asarray(0.5)):
        mutagrad.population(0.1, 1.0, 10, rate)
    for rate in (True, "0.5", [0.5], jnp.ones(1), 1e308):
        with pytest.raises(ValueError, match="^mutation_rate: got "):
            mutagrad.population(0.1, 1.0, 10, rate)


def test_genomes_have_whole_numbers_and_directions_their_shapes():
    genomes = mutagrad.population(0.1, 1.0, 20, 0.5).init(jnp.zeros(5))
    genomes = mutagrad.population(0.1, 1.0, 20, 0.5).ask(jax.random.key(0), genomes)
    assert genomes[np.int64(19)].shape == genomes[jnp.asarray(-1)].shape == (5,)
    with pytest.raises(IndexError, match="got index 500; there are 20"):
        genomes[np.int64(500)]
    with pytest.raises(TypeError, match="pass a whole number"):
        genomes[1.7]
    with pytest.raises(ValueError, match=r"^directions: got a leaf of shape \(5, 2\) for one of \(5,\)"):
        genomes.covariance(jnp.ones((5, 2)))
