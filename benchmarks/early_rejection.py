"""Examples evaluated on MNIST with and without early rejection, to the same loss, on all training images each generation.

(1+50) with automatic σ, an MLP 784-32-10 with tanh. The clock is the number of losses of single examples. Every tenth
generation of a run with early rejection all offspring are evaluated on all examples too, which says whether the best one
was dropped. Stated before the run: 3 times fewer examples to either loss in the median of seeds, at a decision error of 1 %.
"""

import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from benchmarks import common
from mutagrad.lab.tasks.data import load
from mutagrad.theory import examples_evaluated

NUM_OFFSPRING = 50
TARGETS = (1.5, 1.0)
STATED = 3.0


def weights(key: jax.Array) -> list:
    """Weights of standard deviation 1/√fan-in, biases 0."""
    keys = jax.random.split(key)
    return [
        (jax.random.normal(own, (into, out)) / np.sqrt(into), jnp.zeros(out))
        for own, into, out in zip(keys, (784, 32), (32, 10), strict=True)
    ]


def losses(params: list, batch: tuple) -> jax.Array:
    """(B,) cross-entropies."""
    images, labels = batch
    (first, bias), (second, shift) = params
    logits = jnp.tanh(images @ first + bias) @ second + shift
    return jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def record(state, info):
    """What the table needs of a generation."""
    return {
        "loss": info.parent_loss,
        "num_examples": info.num_examples,
        "noise": info.squared_grad_noise,
        "slope": info.squared_grad_norm,
        "sigma": info.sigma,
    }


class Checked:
    """An observer that evaluates all offspring of the next generation, and counts how often the best would be dropped."""

    def __init__(self, algorithm, key, batch, every: int = 10):
        self.algorithm, self.key, self.batch, self.every = algorithm, key, batch, every
        self.judged, self.wrong, self.next = 0, 0, every

        @jax.jit
        def judge(state, own, batch):
            loss_fn = mutagrad.evaluation.of_batch(losses, batch)
            _, early = algorithm.step(own, state, loss_fn, is_resampled=False)
            _, whole = algorithm.step(own, state, loss_fn, is_resampled=False, evaluation="mapped")
            return early.winner != whole.winner

        self.judge = judge

    def __call__(self, chunk):
        """Look at a chunk."""
        if chunk.generation >= self.next:
            own = mutagrad.generation_key(self.key, chunk.generation)
            self.wrong += int(self.judge(chunk.state, own, self.batch))
            self.judged, self.next = self.judged + 1, chunk.generation + self.every


def run(early: bool, seed: int, data: tuple, limit: int) -> dict:
    """One run to the lowest target: examples to each, seconds, and what the checks found."""
    plain = mutagrad.elitist(sigma=0.01, num_offspring=NUM_OFFSPRING)
    algorithm = mutagrad.adapt_sigma(mutagrad.early_rejection(plain) if early else plain)
    key, start_key = jax.random.split(jax.random.key(seed))
    checked = Checked(algorithm, key, data) if early else None
    start = time.perf_counter()
    result = mutagrad.evolve(
        key,
        algorithm,
        weights(start_key),
        losses,
        limit,
        mutagrad.minibatches(data),
        record=record,
        observers=[mutagrad.stop_at_loss(TARGETS[-1]), *([checked] if checked else [])],
        progress=False,
    )
    seconds = time.perf_counter() - start
    history = {name: np.asarray(values, np.float64) for name, values in result.history.items()}
    spent = np.cumsum(history["num_examples"]) * (NUM_OFFSPRING + 1)
    reached = {f"to {goal}": float(spent[np.argmax(history["loss"] <= goal)]) for goal in TARGETS}
    size = len(data[1])
    thirds = np.array_split(np.arange(len(spent)), 3)
    signal = [max(np.mean(history["slope"][part] - history["noise"][part]), 1e-30) for part in thirds]
    scales = [
        float(np.mean(history["noise"][part] * history["num_examples"][part]) / slope)
        for part, slope in zip(thirds, signal, strict=True)
    ]
    return {
        **reached,
        "seconds": seconds,
        "generations": len(spent),
        "share": [float(np.mean(history["num_examples"][part]) / size) for part in thirds],
        "scale": scales,
        "wrong": checked.wrong if checked else 0,
        "judged": checked.judged if checked else 0,
    }


def main() -> None:
    """Run all seeds and write the tables."""
    args = common.arguments(__doc__, repetitions=3, limit=1500, first_seed=0, examples=60_000)
    data = load("mnist")
    batch = (
        jnp.asarray(data.train_inputs[: args.examples]).reshape(-1, 784),
        jnp.asarray(data.train_targets[: args.examples]),
    )
    rows, ratios, laws, judged, wrong = [], {goal: [] for goal in TARGETS}, [], 0, 0
    for seed in range(args.first_seed, args.first_seed + args.repetitions):
        found = {early: partial(run, early, seed, batch, args.limit)() for early in (False, True)}
        for goal in TARGETS:
            ratios[goal].append(found[False][f"to {goal}"] / found[True][f"to {goal}"])
        for early, one in found.items():
            rows.append(
                [
                    str(seed),
                    "early rejection" if early else "whole batch",
                    *[f"{one[f'to {goal}'] / 1e6:,.0f}" for goal in TARGETS],
                    f"{one['generations']:,}",
                    f"{one['seconds']:.0f}",
                ]
            )
            print(rows[-1], one, flush=True)
        one = found[True]
        judged, wrong = judged + one["judged"], wrong + one["wrong"]
        for part, share, scale in zip(("first", "second", "last"), one["share"], found[False]["scale"], strict=True):
            law = float(examples_evaluated(NUM_OFFSPRING, args.examples, scale))
            laws.append([str(seed), part, f"{scale:,.0f}", f"{share:.3f}", f"{law:.3f}"])
    head = ["seed", "evaluation", *[f"million examples to loss {goal}" for goal in TARGETS], "generations", "seconds"]
    told = [
        f"Times fewer examples to loss {goal}: median {statistics.median(found):.2f} "
        f"({min(found):.2f} to {max(found):.2f}); stated {STATED:g}."
        for goal, found in ratios.items()
    ]
    told.append(
        f"The best offspring was dropped in {wrong} of {judged} generations that were looked at; stated at most 1 in 100."
    )
    law_head = [
        "seed",
        "third of the run",
        "noise scale, of the run on the whole batch",
        "share evaluated",
        "law",
    ]
    sections = [common.table(head, rows), *told, "## Share of examples beside its law", common.table(law_head, laws)]
    common.report("early_rejection", sections, args, "one seed after another")


if __name__ == "__main__":
    main()
