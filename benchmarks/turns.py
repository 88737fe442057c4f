"""What a turn of several generations saves: hidden units in groups of 16, mutated in turns, on MNIST.

The network is that of `benchmarks.ten_minutes`, the turns have 1, 4 and 16 generations. In a turn the other groups rest, so that
on all the data their sum is computed once; batches that are drawn anew for each generation share nothing between them.
"""

import statistics
import time
from collections.abc import Callable

import mutagrad
from benchmarks import common
from mutagrad.lab.tasks.data import Dataset, load
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import set_up
from mutagrad.run import generations

TURNS = (1, 4, 16)
WIDTH = 128


def ours(data: Dataset, config: TrainConfig, seconds: float) -> Callable[[], float]:
    """Milliseconds of a generation, over about so many seconds of a run that goes on from call to call."""
    problem = set_up(config, data)
    batches = problem.batches
    if batches.sizes == (len(data.train_targets),):
        batches = mutagrad.minibatches(batches.data)  # all of them, and none drawn
    chunks = generations(problem.key, problem.algorithm, problem.state, problem.task.loss_fn, 10**7, batches)

    def run() -> float:
        number, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            number += next(chunks).num_generations
        return 1e3 * (time.perf_counter() - start) / number

    return run


def main() -> None:
    """Time all of them, one after another in every round, and write the table."""
    args = common.arguments(__doc__, repetitions=9, seconds=2.0)
    data = load("mnist")
    number = len(data.train_targets)
    rows, runs, settings = [], {}, {}
    for num_offspring in (8, 20):
        for size in (number, number // 4):
            for turn in TURNS:
                name = f"(1+{num_offspring}), {size:,} examples, {turn}"
                settings[name] = (num_offspring, size, turn)
                config = TrainConfig(
                    "mnist", widths=(WIDTH,), num_offspring=num_offspring, batch_size=size, turn_generations=turn
                )
                runs[name] = ours(data, config, args.seconds)
    times = common.interleaved(runs, args.repetitions)
    for name, (num_offspring, size, turn) in settings.items():
        reference = f"(1+{num_offspring}), {size:,} examples, 1"
        rows.append(
            [
                f"(1+{num_offspring})",
                f"{size:,}" + (", all" if size == number else ", drawn"),
                str(turn),
                common.spread(times[name]),
                common.ratio(times[name], times[reference]),
                f"{1e3 * statistics.median(times[name]) / size:.2f}",
            ]
        )
    head = [
        "algorithm",
        "examples",
        "generations of a turn",
        "ms of a generation: median (min to max)",
        "times that of turns of 1",
        "µs of a generation per example",
    ]
    common.report("turns", [common.table(head, rows)], args)


if __name__ == "__main__":
    main()
