"""Memory, time and disk of a long run that is saved: a generation costs the same at the end as at the start.

(1+4) with automatic σ on 50 parameters. It runs twice: saved as usual, with a checkpoint a minute, and with two a second. The
first tenth of a run is left out. The rest is cut into spans. Of the processor time of a generation a line is fitted to the spans.
Resident memory moves by pages that are taken and given back, so its slope is the mean of its changes from span to span, and their
spread over √n is the standard error.
Run with ``python -m verification.endurance``; it draws into verification/results.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import mutagrad
from mutagrad.report.figures import panels, save
from mutagrad.run import saved
from verification import common

SPANS = 40
SECONDS = {"a checkpoint a minute": 60.0, "two checkpoints a second": 0.5}


def resident() -> float:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def course(number: int, seconds: float) -> dict[str, np.ndarray]:
    """After each chunk of a run: its generation, processor time [s], resident memory, bytes on disk, and checkpoints begun."""
    rows: list[tuple] = []
    begun, real = [0], saved.Checkpoints.save

    def save_and_count(*arguments: Any) -> None:
        begun[0] += 1
        real(*arguments)

    saved._SECONDS, saved.Checkpoints.save = seconds, save_and_count
    with tempfile.TemporaryDirectory() as place:

        def watch(chunk: Any) -> None:
            journals = sum(path.stat().st_size for path in Path(place).glob("*.journal"))
            rows.append((chunk.generation, time.process_time(), resident(), journals, begun[0]))

        algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 4))
        result = mutagrad.evolve(
            jax.random.key(0), algorithm, jnp.ones(50), lambda x: jnp.sum(jnp.abs(x)), number, checkpoint=place,
            observers=[watch], progress=False,
        )  # fmt: skip
    saved.Checkpoints.save = real
    assert len(result.history["loss"]) == number
    names = ("generation", "processor", "resident", "disk", "checkpoints")
    return dict(zip(names, np.array(rows, float).T, strict=True))


def spans(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A course at the ends of its spans, and the processor time of a generation [µs] within each."""
    number = found["generation"][-1]
    ends = np.linspace(0.1 * number, number, SPANS + 1)
    at = np.searchsorted(found["generation"], ends).clip(max=len(found["generation"]) - 1)
    cut = {name: column[at] for name, column in found.items()}
    return cut | {"microseconds": np.diff(cut["processor"]) / np.diff(cut["generation"]) * 1e6}


def slopes(cut: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Over a million generations, with standard errors: µs of a generation, and MiB."""
    middles = (cut["generation"][1:] + cut["generation"][:-1]) / 2
    line = stats.linregress(middles / 1e6, cut["microseconds"])
    changes = np.diff(cut["resident"]) / 2**20
    scale = len(changes) / (cut["generation"][-1] - cut["generation"][0]) * 1e6
    return {"time": (line.slope, line.stderr), "memory": (scale * changes.mean(), scale * stats.sem(changes))}


def draw(courses: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    sheet, axes = panels(2)
    for color, (name, found) in enumerate(courses.items()):
        cut = spans(found)
        axes[0].step(cut["generation"][1:] / 1e6, cut["microseconds"], where="pre", color=f"C{color}", label=name)
        axes[1].plot(found["generation"] / 1e6, found["resident"] / 2**20, color=f"C{color}", label=name)
    axes[0].set_ylabel("processor time of a generation [µs]")
    axes[1].set_ylabel("resident memory [MiB]")
    for axis in axes:
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
        axis.set_xlim(0, 1.02 * axis.get_xlim()[1])
        axis.set_xlabel("generation [million]")
        axis.grid(alpha=0.25)
    axes[1].legend(frameon=False, loc="lower right")
    save(sheet, path)


def table(cut: dict[str, np.ndarray]) -> str:
    lines = [
        "| generation | processor time of one [µs] | resident memory [MiB] | journals, bytes a generation |",
        "| --- " * 4 + "|",
    ]
    for place in range(SPANS // 10, SPANS + 1, SPANS // 10):
        first = place - SPANS // 10
        each = (cut["processor"][place] - cut["processor"][first]) / (
            cut["generation"][place] - cut["generation"][first]
        )
        disk = cut["disk"][place] / cut["generation"][place]
        lines.append(
            f"| {cut['generation'][place]:,.0f} | {each * 1e6:.2f} | {cut['resident'][place] / 2**20:.1f} | {disk:.1f} |"
        )
    return "\n".join(lines)


def verdict(slope: float, error: float) -> str:
    return (
        "zero within one standard error"
        if abs(slope) <= error
        else f"{abs(slope) / max(error, 1e-12):.1f} standard errors"
    )


def main() -> None:
    args = common.arguments(__doc__, generations=1_000_000)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    start, sections = time.monotonic(), []
    courses = {name: course(args.generations, seconds) for name, seconds in SECONDS.items()}
    for name, found in courses.items():
        cut = spans(found)
        (quicker, quicker_error), (more, more_error) = (slopes(cut)[one] for one in ("time", "memory"))
        number = int(cut["checkpoints"][-1] - cut["checkpoints"][0])
        text = (
            f"{args.generations:,} generations, {name}. Over a million generations the processor time of one changes by "
            f"{quicker:+.2f} ± {quicker_error:.2f} µs ({verdict(quicker, quicker_error)}), and resident memory by "
            f"{more:+.2f} ± {more_error:.2f} MiB ({verdict(more, more_error)}); {number} checkpoints in nine tenths of it"
        )
        if number > SPANS:
            text += f", {(cut['resident'][-1] - cut['resident'][0]) / 1024 / number:.0f} KiB each"
        sections += [f"{text}.", table(cut)]
    if not args.no_write:
        draw(courses, common.RESULTS / "endurance.png")
        sections.append("![processor time of a generation, and resident memory, against the generation](endurance.png)")
    common.report("endurance", sections, args, "", time.monotonic() - start)


if __name__ == "__main__":
    main()
