"""A generation of a training run made again from its start and its lineage, without evaluating the loss."""

from pathlib import Path

import jax
import numpy as np

from mutagrad.lab.tasks.data import load
from mutagrad.lab.training import resume, run_folder
from mutagrad.lab.training.problem import set_up
from mutagrad.run.evolve import Result
from mutagrad.run.lineage import replay as replay_lineage
from mutagrad.run.saved import last_state

__all__ = ["replay"]


def replay(folder: str | Path, generation: int | None = None, out: str | None = None) -> str:
    """Make a generation of a run again, and say how it went.

    Parameters
    ----------
    folder : as `mutagrad train` wrote it. generation : which one; the last unless given.
    out : a .safetensors file for its parameters, in a folder that is there; the ending may be left out. Or ``None``.

    Returns
    -------
    Text: that every generation had the checksum of the run's own, whether the newest checkpoint is the same, its test score,
    and the bytes that the lineage takes.

    Raises
    ------
    FileNotFoundError, ValueError : if there is no run, its lineage is damaged before that generation, its data are others, or
        there is no folder for ``out``, which is known before anything is replayed.
    """
    folder, written = Path(folder).expanduser(), None if out is None else _file(out)
    config, settings = run_folder.read_config(folder), run_folder.read_settings(folder)
    data = load(settings.data, settings.data_dir, settings.task)
    problem = set_up(settings, data, run_folder.read_inputs(folder))
    task = problem.task
    if resume.are_others(config, data, task.data):
        raise ValueError(
            f"data: got {settings.data!r}, whose examples are others than those of the run in {str(folder)!r}"
        )
    start = Result(problem.state.params, problem.state, None, "")
    found = replay_lineage(folder / "checkpoint", problem.algorithm, start, generation)
    lines = [f"replayed         generation {found.generation:,} of {found.last:,}, each with its own checksum"]
    try:
        newest = last_state(folder / "checkpoint", problem.key, problem.algorithm, problem.state)
    except ValueError as error:
        lines.append(f"checkpoint       {error}")
    else:
        if int(newest.generation) == found.generation:
            pairs = zip(jax.tree.leaves(newest.params), jax.tree.leaves(found.params), strict=True)
            is_same = all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)
            lines.append(f"checkpoint       {'the same, bit for bit' if is_same else 'DIFFERS'}")
    score = task.measure_fn(found.params, task.data.test_inputs, task.data.test_targets)
    each = found.num_bytes / max(found.num_generations, 1)
    lines += [
        f"test {task.score_name:<12}{score.score:.4f}",
        f"lineage          {found.num_bytes:,} bytes, {each:.3g} a generation, 1/{found.num_bytes_of_params / each:,.0f} of its "
        "parameters",
    ]
    if written is not None:
        run_folder.write_arrays(written.parent, written.stem, found.params)
        lines.append(f"parameters       {written}")
    return "\n".join(lines)


def _file(out: str) -> Path:
    """The file to write to, with its ending, in a folder that is there."""
    path = Path(out).expanduser()
    if path.suffix != ".safetensors":
        path = path.parent / f"{path.name}.safetensors"
    if path.stem in ("", ".safetensors") or path.is_dir() or not path.parent.is_dir():
        raise FileNotFoundError(f"out: got {out!r}, which is a folder, or in one that is not there; pass a file's name")
    return path
