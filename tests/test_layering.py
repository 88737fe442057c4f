"""One direction of imports, and every public name documented."""

import ast
import importlib
import inspect
import operator
import pkgutil
from pathlib import Path

import pytest

import mutagrad

SOURCE = Path(mutagrad.__file__).parent

# Each room may import those to its left; `theory` reads algorithms' types, and no algorithm reads theory.
ORDER = [
    "check",
    "law",
    "estimate",
    "compiler",
    "tree",
    "types",
    "mutation",
    "evaluation",
    "selection",
    "recombination",
    "gauge",
    "generation",
    "algorithms",
    "theory",
    "diagnostics",
    "step_size",
    "alternation",
    "batches",
    "batch_size",
    "checkpoint",
    "run",
    "gradient_transformation",
    "report",
    "lab",
    "cli",
]
FORBIDDEN = {"matplotlib", "equinox", "sklearn", "xarray", "zarr", "safetensors", "flax"}
"""What the core may not need: the lab extra's libraries."""
CORE = ORDER[: ORDER.index("report")]


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports, wherever in the file, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str | None:
    """The room of the house that a dotted name is in: ``mutagrad.theory.progress`` is in theory."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mutagrad" and len(parts) > 1 and parts[1] in ORDER else None


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_every_module_has_its_place_in_the_order():
    assert {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    own = ORDER.index(path.relative_to(SOURCE).parts[0].removesuffix(".py"))
    modules = imported_modules(path)
    later = {module for module in modules if (other := room(module)) and ORDER.index(other) > own}
    assert not later
    if ORDER[own] in CORE:
        assert not {module for module in modules if module.split(".")[0] in FORBIDDEN}
        assert "mutagrad" not in modules, "the core names the room that it needs"


def test_the_check_sees_a_wrong_import(tmp_path):
    file = tmp_path / "selection.py"
    file.write_text("def f():\n    from mutagrad.theory import progress\n")
    assert [room(module) for module in imported_modules(file)] == ["theory"]


def public_names() -> dict[str, object]:
    """Everything in ``__all__`` of the package and of its modules."""
    found: dict[str, object] = {}
    modules = ["mutagrad", *(info.name for info in pkgutil.walk_packages(mutagrad.__path__, "mutagrad."))]
    for name in modules:
        module = importlib.import_module(name)
        assert module.__doc__, f"{name} has no docstring"
        for public in getattr(module, "__all__", ()):
            found[f"{name}.{public}"] = getattr(module, public)
    return found


@pytest.mark.parametrize(
    ("name", "value"), public_names().items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_names_are_documented(name, value):
    if inspect.ismodule(value) or not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    text = inspect.getdoc(value)
    assert text, f"{name} has no docstring"
    # The docstring that a NamedTuple makes for itself says nothing.
    assert not text.startswith(f"{value.__name__}("), f"{name} has no docstring of its own"


@pytest.mark.parametrize("name", [name for name in mutagrad.__all__ if inspect.isfunction(getattr(mutagrad, name))])
def test_public_functions_show_an_example(name):
    # The examples themselves are executed by the doctest run.
    assert ">>>" in inspect.getdoc(getattr(mutagrad, name))


CONTRACT = """
elitist comma greedy metropolis logistic boltzmann fixation truncation mutation_selection evolve adapt_sigma
as_gradient_transformation theory.normalized_mutation_strength theory.expected_gain theory.optimal_strength
mutation.gaussian mutation.sphere mutation.ball mutation.student_t mutation.rademacher mutation.low_rank mutation.scaled
"""


@pytest.mark.parametrize("name", CONTRACT.split())
def test_contract_names_exist(name):
    assert callable(operator.attrgetter(name)(mutagrad))
