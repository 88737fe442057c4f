"""`mutagrad.adapt_sigma` with few offspring, on batches and on noise: final losses over those of the start.

- Linear regressions in 100 directions: 400 examples, mean losses of 8 of them, 1,500 generations from zero.
- Noise on quadratic losses, drawn anew for every evaluation, 400 generations with one offspring from σ = 0.1: 30 curvatures from
  1 to 10 with noise 1, from a loss of 83; the sphere of 10 with noise of 30 % of the loss, from 5.

Data, noise and runs have a key for each of ``--number`` repeats. Run with ``python -m verification.few_offspring``; for an older
version set PYTHONPATH to its sources and add ``--no-write``.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from verification import common

LEVELS = (0, 0.25, 0.5, 0.75, 0.9, 1)
DIRECTIONS, EXAMPLES, BATCH = 100, 400, 8


def regression(num_offspring: int, sigma: float, generations: int = 1500) -> Callable[[jax.Array], jax.Array]:
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma, num_offspring))

    def ratio(key):
        of_inputs, of_weights, of_noise, of_run = jax.random.split(key, 4)
        inputs = jax.random.normal(of_inputs, (EXAMPLES, DIRECTIONS))
        outputs = inputs @ (2 * jax.random.normal(of_weights, (DIRECTIONS,))) + jax.random.normal(of_noise, (EXAMPLES,))

        def generation(state, key):
            of_batch, of_step = jax.random.split(key)
            batch = jax.random.randint(of_batch, (BATCH,), 0, EXAMPLES)
            return algorithm.step(of_step, state, lambda x: jnp.mean(jnp.square(inputs[batch] @ x - outputs[batch])))[
                0
            ], None

        end, _ = jax.lax.scan(generation, algorithm.init(jnp.zeros(DIRECTIONS)), jax.random.split(of_run, generations))
        return jnp.mean(jnp.square(inputs @ end.params - outputs)) / jnp.mean(jnp.square(outputs))

    return ratio


def noisy(curvatures: jax.Array, start: float, noise: float, share: float) -> Callable[[jax.Array], jax.Array]:
    """Noise of a size, and of a share of the loss."""
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 1))

    def true(x):
        return jnp.sum(curvatures * jnp.square(x)) / 2

    ones = jnp.ones(curvatures.shape)
    first = ones * jnp.sqrt(start / true(ones))

    def ratio(key):
        def generation(state, key):
            of_noise, of_step = jax.random.split(key)

            def loss_fn(x):
                own = jax.random.fold_in(of_noise, jax.lax.bitcast_convert_type(jnp.sum(x), jnp.uint32))
                return true(x) * (1 + share * jax.random.normal(own)) + noise * jax.random.normal(
                    jax.random.fold_in(own, 1)
                )

            return algorithm.step(of_step, state, loss_fn)[0], None

        return true(jax.lax.scan(generation, algorithm.init(first), jax.random.split(key, 400))[0].params) / start

    return ratio


CASES = {
    "regression, M = 1, first σ 0.1": lambda: regression(1, 0.1),
    "regression, M = 3, first σ 0.1": lambda: regression(3, 0.1),
    "regression, M = 1, first σ 0.001": lambda: regression(1, 0.001),
    "regression, M = 10, first σ 0.1": lambda: regression(10, 0.1),
    "regression, M = 10, first σ 0.1, 150 generations": lambda: regression(10, 0.1, 150),
    "curvatures 1 to 10, noise 1, M = 1": lambda: noisy(jnp.geomspace(1, 10, 30), 83.0, 1.0, 0.0),
    "sphere of 10, noise 30 %, M = 1": lambda: noisy(jnp.ones(10), 5.0, 0.0, 0.3),
}


def main() -> None:
    args = common.arguments(__doc__, number=64, seed=2611)
    began = time.perf_counter()
    names = ["smallest", "quarter", "median", "three quarters", "nine tenths", "largest"]
    lines = [f"| final loss over first | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for name, case in CASES.items():
        ratios = np.asarray(jax.jit(jax.vmap(case()))(jax.random.split(jax.random.key(args.seed), args.number)))
        lines.append(f"| {name} | {' | '.join(f'{value:.3g}' for value in np.quantile(ratios, LEVELS))} |")
        print(lines[-1], flush=True)
    sections = [f"{args.number} repeats of every line.", "\n".join(lines)]
    common.report("few_offspring", sections, args, "", time.perf_counter() - began)


if __name__ == "__main__":
    main()
