"""Generations per second of low-rank mutations that are not formed, on the user's own model, unchanged.

Run with ``python -m benchmarks.low_rank``. Demanded on two cores: an MLP 784-1024-1024-10 at least 5 times evosax with the same
model, and at least 0.9 of plain inference on as many examples; a transformer of ten million parameters at least 3 times.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import mutagrad
from benchmarks import common

EVOSAX = "evosax HillClimbing, the same model"
PLAIN = "plain inference on as many examples"
SIGMA = 0.01


class Block(eqx.Module):
    """A block of a transformer as Equinox has its parts."""

    attention: eqx.nn.MultiheadAttention
    first: eqx.nn.LayerNorm
    second: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width: int, heads: int, key: jax.Array):
        keys = jax.random.split(key, 3)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[0])
        self.first, self.second = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.up = eqx.nn.Linear(width, 4 * width, key=keys[1])
        self.down = eqx.nn.Linear(4 * width, width, key=keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.vmap(self.first)(x)
        x = x + self.attention(y, y, y, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
        return x + jax.vmap(lambda row: self.down(jax.nn.gelu(self.up(self.second(row)))))(x)


class Transformer(eqx.Module):
    """Tokens in, logits of the next token out."""

    tokens: eqx.nn.Embedding
    places: eqx.nn.Embedding
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int, key: jax.Array):
        keys = jax.random.split(key, layers + 3)
        self.tokens = eqx.nn.Embedding(vocabulary, width, key=keys[0])
        self.places = eqx.nn.Embedding(length, width, key=keys[1])
        self.head = eqx.nn.Linear(width, vocabulary, key=keys[2])
        self.blocks = [Block(width, heads, one) for one in keys[3:]]

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.vmap(self.tokens)(tokens) + jax.vmap(self.places)(jnp.arange(len(tokens)))
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.head)(x)


def mlp(batch_size: int):
    """An MLP of Equinox, and its cross-entropy for every example."""
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = (784, 1024, 1024, 10)
    layers = [eqx.nn.Linear(*pair, key=key) for *pair, key in zip(sizes[:-1], sizes[1:], keys, strict=True)]
    first, second, last = layers
    model = eqx.nn.Sequential([first, eqx.nn.Lambda(jnp.tanh), second, eqx.nn.Lambda(jnp.tanh), last])
    params, static = eqx.partition(model, eqx.is_array)

    def losses(params, data):
        images, labels = data
        logits = jax.vmap(eqx.combine(params, static))(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    images, labels = common.random_images(batch_size)
    return params, losses, (images.reshape(batch_size, 784), labels)


def transformer(batch_size: int, length: int):
    """A transformer of ten million parameters, and its cross-entropy for every sequence."""
    params, static = eqx.partition(Transformer(256, length, 384, 6, 6, jax.random.key(0)), eqx.is_array)

    def losses(params, data):
        logits = jax.vmap(eqx.combine(params, static))(data[:, :-1])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, data[:, 1:]), axis=1)

    return params, losses, jax.random.randint(jax.random.key(1), (batch_size, length + 1), 0, 256)


def ours(params, losses, data, number, num_offspring, **options):
    algorithm = mutagrad.elitist(SIGMA, num_offspring, **options)
    return common.looped(common.our_generation(algorithm, losses), algorithm.init(params), data, number)


def theirs(params, losses, data, number, num_offspring):
    generation, state = common.evosax_hill_climbing(params, common.mean_of(losses), SIGMA, num_offspring)
    return common.looped(generation, state, data, number)


def plain(params, losses, data, number, times):
    """One model on ``times`` copies of the batch."""
    many = jax.tree.map(lambda one: jnp.concatenate([one] * times), data)

    def generation(key, params, many):
        mean = jnp.mean(losses(params, many))
        # Another model each time, or the compiler would evaluate it once for all.
        return jax.tree.map(lambda leaf: leaf + 1e-9 * mean if leaf.ndim == 1 else leaf, params), mean

    return common.looped(generation, params, many, number)


def rows(params, losses, data, number, num_offspring):
    low = mutagrad.mutation.low_rank
    common_arguments = (params, losses, data, number, num_offspring)
    return {
        EVOSAX: theirs(*common_arguments),
        PLAIN: plain(params, losses, data, number, num_offspring + 1),
        "ours, rank 1": ours(*common_arguments, mutation=low(1)),
        "ours, rank 1, evolve": common.evolved(
            mutagrad.elitist(SIGMA, num_offspring, mutation=low(1)), params, losses, data, number
        ),
        "ours, rank 4": ours(*common_arguments, mutation=low(4)),
        "ours, rank 1, formed": ours(*common_arguments, mutation=low(1, formed=True)),
        "ours, gaussian": ours(*common_arguments),
    }


def main() -> None:
    args = common.arguments(__doc__, repetitions=5, generations=3, only="")
    sections = [
        f"σ = {SIGMA}. Ours makes M offspring and evaluates them and their parent; evosax does not evaluate the parent. Plain "
        "inference is one model on M + 1 times the batch. The models are of Equinox, as its documentation writes them."
    ]
    cases = {
        "mlp": ("MLP 784-1024-1024-10, M = 64, batch of 256", mlp(256), 64),
        "transformer": ("Transformer of ten million parameters, M = 16, 8 sequences of 64", transformer(8, 64), 16),
    }
    for name, (title, (params, losses, data), num_offspring) in cases.items():
        if args.only not in ("", name):
            continue
        rates = common.interleaved(rows(params, losses, data, args.generations, num_offspring), args.repetitions, 1)
        sections += [
            f"## {title}: N = {mutagrad.tree.size(params):,}",
            common.rate_table(rates, EVOSAX),
            common.rate_table({key: rates[key] for key in (PLAIN, "ours, rank 1", "ours, rank 4")}, PLAIN),
        ]
    common.report("low_rank", sections, args)


if __name__ == "__main__":
    main()
