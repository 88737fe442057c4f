"""Every algorithm with its rule in the oracle, and a small network whose loss NumPy knows too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle

import mutagrad

BETA = 1.3
SIZE = 6

# Each algorithm, how many offspring it has, and its rule in the oracle: ``rule(draws) -> decide(losses, parent_loss)``.


def one(probability):
    return lambda draws: lambda losses, parent: oracle.judge_one(losses[0], parent, draws["uniform"], probability)


ALGORITHMS = {
    "metropolis": (functools.partial(mutagrad.metropolis, beta=BETA), 1, one(oracle.metropolis(BETA))),
    "greedy": (mutagrad.greedy, 1, one(oracle.greedy())),
    "logistic": (functools.partial(mutagrad.logistic, beta=BETA), 1, one(oracle.logistic(BETA))),
    "moran": (
        functools.partial(mutagrad.fixation, beta=BETA, population_size=4),
        1,
        one(oracle.fixation(BETA, 4, "moran")),
    ),
    "wright_fisher": (
        functools.partial(mutagrad.fixation, beta=BETA, population_size=4, model="wright_fisher"),
        1,
        one(oracle.fixation(BETA, 4, "wright_fisher")),
    ),
    "boltzmann": (
        functools.partial(mutagrad.boltzmann, beta=BETA, num_offspring=SIZE),
        SIZE,
        lambda draws: lambda losses, parent: oracle.boltzmann(losses, parent, draws["gumbel"], BETA),
    ),
    "elitist": (
        functools.partial(mutagrad.elitist, num_offspring=SIZE),
        SIZE,
        lambda draws: oracle.elitist,
    ),
    "comma": (
        functools.partial(mutagrad.comma, num_offspring=SIZE),
        SIZE,
        lambda draws: lambda losses, parent: oracle.comma(losses),
    ),
    "truncation": (
        functools.partial(mutagrad.truncation, population_size=SIZE, num_parents=3),
        SIZE,
        lambda draws: lambda losses, parent: oracle.truncation(losses, 3),
    ),
}


def leaves_of(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


# ----------------------------------------------------------------------------------------------------------------------
# A small nonlinear regression, in float32 by the library and in float64 by the oracle
# ----------------------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(16, 3)).astype(np.float32)
TARGETS = np.sin(INPUTS @ np.array([1.0, -2.0, 0.5])).astype(np.float32)


def network_params():
    """Leaves in the order of their names: b (float16), steps (int), w."""
    return {
        "b": jnp.asarray([0.5, -0.25, 0.0, 1.0], jnp.float16),
        "steps": jnp.arange(3),
        "w": jax.random.normal(jax.random.key(9), (3, 4)),
    }


def network_loss(params):
    """Per-example squared errors (16,)."""
    hidden = jnp.tanh(jnp.asarray(INPUTS) @ params["w"] + params["b"].astype(jnp.float32)[None])
    return jnp.square(jnp.sum(hidden, axis=1) - jnp.asarray(TARGETS))


def network_values_in_numpy(params):
    b, _, w = (values.astype(np.float64) for values in params)
    return (np.tanh(INPUTS.astype(np.float64) @ w + b).sum(axis=1) - TARGETS.astype(np.float64)) ** 2


def network_loss_in_numpy(params):
    return float(np.mean(network_values_in_numpy(params)))


def exact_noise(key, params):
    """Uniform noise in [−2, 2) on a grid: with σ = 1/4 products are exact, and any compilation rounds x + σz alike."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noise = [4 * jax.random.uniform(k, jnp.shape(leaf)) - 2 for k, leaf in zip(keys, leaves, strict=True)]
    return structure.unflatten(noise)


EXACT = mutagrad.Mutation(exact_noise, "exact")
