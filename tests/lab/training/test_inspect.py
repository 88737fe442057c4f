"""`mutagrad inspect` of a checkpoint of `mutagrad.evolve`, which knows neither the algorithm nor the loss."""

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.lab.training.inspect import diagnosis, inspect
from mutagrad.report.page.folder import lost_of
from mutagrad.run import journal
from mutagrad.run.past import HISTORY

pytestmark = pytest.mark.permissive


def run(folder, number=60, record=None, start=None):
    algorithm, start = mutagrad.elitist(sigma=0.1, num_offspring=20), jnp.ones(50) if start is None else start
    return mutagrad.evolve(
        jax.random.key(0), algorithm, start, lambda x: jnp.sum(x**2), number, record=record, checkpoint=folder,
        progress=False,
    )  # fmt: skip


def test_a_checkpoint_of_evolve_is_inspected(tmp_path):
    """The regime of the last third, as `mutagrad.diagnostics.regime` has it; nothing is written into the folder."""
    run(tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    said = []
    text = inspect(tmp_path / "run", said.append)
    assert said == [text]
    columns = journal.read(tmp_path / "run" / HISTORY).columns
    ending = {name: column[40:] for name, column in columns.items()}
    assert text.startswith(f"The last third of the run:\n{mutagrad.diagnostics.regime(ending)}\n")
    assert text.endswith(f"mutagrad report {tmp_path / 'run'}")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    with pytest.raises(ValueError, match="holds no loss to evaluate; call mutagrad.diagnose"):
        diagnosis(tmp_path / "run")


def test_one_without_losses_is_refused(tmp_path):
    run(tmp_path / "run", record=lambda state, info: {"norm": jnp.linalg.norm(state.params)})
    with pytest.raises(ValueError, match="whose history has no losses of two generations or more"):
        inspect(tmp_path / "run")


def test_generations_that_a_checkpoint_knows_of_and_the_history_lacks_are_named(tmp_path):
    """A history that is cut at its end reads like one that was written so far: the checkpoint knows better."""
    run(tmp_path / "run")
    path = tmp_path / "run" / HISTORY
    path.write_bytes(path.read_bytes()[:-1])
    number = max(map(len, journal.read(path).columns.values()), default=0)
    assert number < 60
    if number > 1:
        assert f"Generations {number + 1} to 60 of what is kept are lost to damage" in inspect(tmp_path / "run")
    assert lost_of(tmp_path / "run") == [range(number, 60)]


def test_lost_generations_have_the_numbers_of_their_run(tmp_path, monkeypatch):
    """A run that goes on without the history before has the generations from there on."""
    first = run(tmp_path / "first", 20)
    run(tmp_path / "run", start=first._replace(history=None))
    monkeypatch.setattr("mutagrad.lab.training.inspect.lost_of", lambda folder: [range(3, 5)])
    assert "Generations 24 to 25 of what is kept are lost to damage" in inspect(tmp_path / "run")
