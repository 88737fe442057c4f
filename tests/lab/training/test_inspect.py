"""`mutagrad inspect` of a checkpoint of `mutagrad.evolve`, which knows neither the algorithm nor the loss."""

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.lab.training.inspect import diagnosis, inspect
from mutagrad.run import journal
from mutagrad.run.past import HISTORY

pytestmark = pytest.mark.permissive


def run(folder, number=60, record=None):
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20)
    mutagrad.evolve(
        jax.random.key(0), algorithm, jnp.ones(50), lambda x: jnp.sum(x**2), number, record=record, checkpoint=folder,
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
