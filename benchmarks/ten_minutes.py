"""Where ten minutes on MNIST get to by mutation and selection, with recombination or without, beside SGD on the same network.

With ``--algorithm elitist`` nothing recombines: the best of M offspring becomes the parent if no worse. σ and batch size are
automatic, and the hidden units are mutated in turns, in groups of 16, as `mutagrad train` does unless told otherwise; the clock
of a run includes compilation and the accuracy measured on the way. SGD is Optax's, plain, with batches of 256 at the best of
four learning rates. The price predicted for having no gradient is TrH/λ_max/(2G) generations for each step of gradient descent
at 1/λ_max, G the gain of a generation in units of |∇U|²/TrH (theory.md 4), measured at the last parameters.
"""

import statistics
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from mutagrad import theory, tree
from mutagrad.lab.tasks.data import Dataset, load
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import Problem, set_up
from mutagrad.run.loop import generations
from mutagrad.selection import normal_scores

TARGET = 0.97
EXAMPLES = 256
RATES = (0.03, 0.1, 0.3, 1.0)


def ours(problem: Problem, limit: float) -> dict[str, Any]:
    """Generations for ``limit`` seconds: when the target was first seen, and where the run ended."""
    data, start = problem.task.data, time.perf_counter()
    state, first, look, examples = problem.state, None, 5.0, 0
    records: list[dict[str, np.ndarray]] = []
    for chunk in generations(
        problem.key, problem.algorithm, state, problem.task.loss_fn, 10**7, batches=problem.batches
    ):
        state = chunk.state
        records.append(chunk.records)
        examples += int(chunk.records["num_examples"].sum())
        now = time.perf_counter() - start
        if now > look or now > limit:
            look = now + 5
            accuracy = problem.task.measure_fn(state.params, data.test_inputs, data.test_targets).score
            print(f"  {now:.0f} s {accuracy:.4f}", file=sys.stderr, flush=True)
            if first is None and accuracy >= TARGET:
                first = {"seconds": time.perf_counter() - start, "generations": int(state.generation)}
            if now > limit:
                break
    last = {name: np.concatenate([one[name] for one in records])[-500:] for name in records[0]}
    return {"first": first, "accuracy": accuracy, "state": state, "examples": examples, "last": last}


def sgd(problem: Problem, rate: float, limit: int = 20_000) -> dict[str, float] | None:
    """Steps and seconds of plain SGD to the target, looked at every hundred steps; ``None`` if not within the limit."""
    data, optimizer = problem.task.data, optax.sgd(rate)
    inputs, labels = jnp.asarray(data.train_inputs), jnp.asarray(data.train_targets)

    @partial(jax.jit, donate_argnums=0)
    def hundred(carry, key):
        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (EXAMPLES,), 0, len(labels))
            batch = (inputs[chosen], labels[chosen])
            gradient = jax.grad(lambda p: jnp.mean(problem.task.loss_fn(p, batch)))(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, jax.random.split(key, 100))[0]

    params = jax.tree.map(jnp.copy, problem.state.params)
    carry, seconds = (params, optimizer.init(params)), 0.0
    for number in range(limit // 100):
        start = time.perf_counter()
        carry = jax.block_until_ready(hundred(carry, jax.random.fold_in(problem.key, number)))
        seconds += (time.perf_counter() - start) if number else 0.0  # the first hundred compile
        if problem.task.measure_fn(carry[0], data.test_inputs, data.test_targets).score >= TARGET:
            return {"steps": 100 * (number + 1), "seconds": seconds}
    return None


def most_gain(config: TrainConfig) -> float:
    """Of a generation, without noise, in units of |∇U|²/TrH."""
    if config.algorithm == "weighted_recombination":
        moments = theory.recombination_moments(normal_scores(config.num_offspring))
        return moments.first**2 / (2 * moments.transverse)
    return float(theory.expected_gain(theory.optimal_strength(config.num_offspring), config.num_offspring))


def evaluations(config: TrainConfig) -> int:
    """Of a generation: the offspring and the parent, and where they recombine what came of it."""
    return config.num_offspring + (2 if config.algorithm == "weighted_recombination" else 1)


def price(problem: Problem, found: dict[str, Any], config: TrainConfig) -> str:
    """The predicted slowdown at the end of a run."""
    data, last = problem.task.data, found["last"]
    batch = (jnp.asarray(data.train_inputs[:10_000]), jnp.asarray(data.train_targets[:10_000]))
    rank = theory.effective_rank(
        lambda params: jnp.mean(problem.task.loss_fn(params, batch)), found["state"].params, jax.random.key(0)
    )
    batches = "the last batches were all the data"
    if last["num_examples"][-1] < len(data.train_targets):
        signal = 1 - last["squared_grad_noise"].mean() / last["squared_grad_norm"].mean()
        batches = f"signal is {signal:.2f} of |∇U|² on a batch"
    return (
        f"At the end the effective rank TrH/λ_max is {float(rank.rank):.0f} ± {float(rank.error):.0f} for "
        f"{tree.size(found['state'].params):,} parameters; {batches}. Without noise, and "
        f"without curvature along the slope, a step of gradient descent would gain what "
        f"{float(rank.rank) / (2 * most_gain(config)):.2f} generations of {evaluations(config)} evaluations do."
    )


def main() -> None:
    """Run all seeds and write the table."""
    args = common.arguments(
        __doc__,
        repetitions=3,
        limit=600.0,
        width=128,
        num_offspring=40,
        algorithm="weighted_recombination",
        first_seed=0,
    )
    data: Dataset = load("mnist")
    rows, reached, prices = [], [], ""
    for seed in range(args.first_seed, args.first_seed + args.repetitions):
        config = TrainConfig(
            "mnist",
            widths=(args.width,),
            algorithm=args.algorithm,
            num_offspring=args.num_offspring,
            seed=seed,
        )
        problem = set_up(config, data)
        found = ours(problem, args.limit)
        problem = set_up(config, data)  # the run has consumed the first parameters
        steps = [(sgd(problem, rate), rate) for rate in RATES]
        best, rate = min(((one, rate) for one, rate in steps if one is not None), key=lambda pair: pair[0]["steps"])
        reached.append(found["accuracy"])
        first = found["first"]
        rows.append(
            [
                str(seed),
                f"{100 * found['accuracy']:.2f} %",
                f"{int(found['state'].generation) * evaluations(config):,}",
                f"{found['examples'] * evaluations(config):.2g}",
                f"{first['seconds']:.0f} s, {first['generations'] * evaluations(config):,}" if first else "not seen",
                f"{best['steps']:,} ({best['seconds']:.1f} s, rate {rate:g})",
            ]
        )
        prices = price(problem, found, config)
        print(rows[-1], prices, flush=True)
    head = [
        "seed",
        f"test accuracy after {args.limit:.0f} s",
        "loss evaluations",
        "times examples",
        "97 % first seen: time, evaluations",
        f"SGD's steps to 97 %, {EXAMPLES} examples each",
    ]
    text = (
        f"Median {100 * statistics.median(reached):.2f} % ({100 * min(reached):.2f} to {100 * max(reached):.2f}). Network "
        f"40-{args.width}-10 on the principal components; {args.algorithm}, {args.num_offspring} offspring. {prices}"
    )
    name = "ten_minutes" if args.algorithm == "weighted_recombination" else f"ten_minutes_{args.algorithm}"
    common.report(name, [common.table(head, rows), text], args, "one seed after another")


if __name__ == "__main__":
    main()
