"""One direction of imports between rooms, public names where they are said to be and documented, files of a size to read."""

import ast
import importlib
import inspect
import operator
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mutagrad

SOURCE = Path(mutagrad.__file__).parent

# A room is a package or a module. Each may import those before it, wherever in a file and by whatever means.
ORDER = [
    "notice",
    "failures",
    "worker",
    "check",
    "law",
    "estimate",
    "compiler",
    "keys",
    "tree",
    "noise",
    "state",
    "types",
    "mutation",
    "offspring",
    "estimates",
    "selection",
    "evaluation",
    "algorithms",
    "theory",
    "run",
    "trackers",
    "control",
    "gradient_transformation",
    "diagnostics",
    "report",
    "lab",
    "cli",
    "__main__",
]
FORBIDDEN = {"matplotlib", "equinox", "sklearn", "xarray", "zarr", "safetensors", "flax"}
"""What the core may not need: the lab extra's libraries."""
CORE = ORDER[: ORDER.index("report")]
LONGEST = 350
"""Lines of the longest file that one reads in one sitting."""


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports, wherever in the file, as dotted names; those of `import_module` too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            found.add(text_of(node.args[0]))
    return found


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def text_of(node: ast.expr) -> str:
    """A string, or the part of an f-string before its first value."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0]
    assert isinstance(node, ast.Constant), "import_module of a name that cannot be read off the file"
    return node.value


def room(module: str) -> str | None:
    """The room of the house that a dotted name is in: ``mutagrad.theory.progress`` is in theory."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mutagrad" and len(parts) > 1 and parts[1] in ORDER else None


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


# The package itself holds a table of names and imports nothing before it is asked to.
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_every_module_has_its_place_in_the_order():
    assert {room_of(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path):
    own, modules = ORDER.index(room_of(path)), imported_modules(path)
    later = {module for module in modules if (other := room(module)) and ORDER.index(other) > own}
    assert not later
    if ORDER[own] in CORE:
        assert not {module for module in modules if module.split(".")[0] in FORBIDDEN}
        through_the_package = {m for m in modules if m.split(".")[0] == "mutagrad" and room(m) is None}
        assert not through_the_package, "the core names the room that it needs"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("def f():\n    from mutagrad.theory import progress", "theory"),
        ("import mutagrad.theory.progress as p", "theory"),
        ("from mutagrad import theory", "theory"),
        ("importlib.import_module('mutagrad.report.text')", "report"),
        ("import_module(f'mutagrad.lab.{work}')", "lab"),
        ("from mutagrad import evolve", None),
    ],
)
def test_the_check_sees_a_wrong_import(tmp_path, line, seen):
    file = tmp_path / "selection.py"
    file.write_text(line + "\n")
    (module,) = imported_modules(file)
    assert room(module) == seen


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_too_long(path):
    number = len(path.read_text().splitlines())
    assert number <= LONGEST


# ----------------------------------------------------------------------------------------------------------------------
# The package: a table of where its names are
# ----------------------------------------------------------------------------------------------------------------------


def test_the_table_of_places_names_every_public_name_once():
    named = [name for names in mutagrad._PLACES.values() for name in names.split()] + list(mutagrad._ROOMS)
    assert sorted(named) == sorted(mutagrad.__all__) == sorted(set(mutagrad.__all__))
    assert dir(mutagrad) == mutagrad.__all__


@pytest.mark.parametrize("place", mutagrad._PLACES)
def test_every_name_is_public_in_its_place(place):
    module = importlib.import_module(f"mutagrad.{place}")
    for name in mutagrad._PLACES[place].split():
        assert getattr(mutagrad, name) is getattr(module, name)
        assert name in getattr(module, "__all__", [name])


def test_type_checkers_see_the_same_names():
    """What stands under TYPE_CHECKING is what the table says."""
    (block,) = [node for node in ast.parse((SOURCE / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    imports = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    table = {(f"mutagrad.{place}", name) for place, names in mutagrad._PLACES.items() for name in names.split()}
    assert imports == table | {("mutagrad", name) for name in mutagrad._ROOMS}


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'mutagrad' has no attribute 'gradient'"):
        mutagrad.gradient  # noqa: B018


def test_importing_the_package_imports_neither_jax_nor_numpy():
    script = "import sys, mutagrad; print(sorted({'jax', 'numpy', 'scipy', 'optax', 'tqdm'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_run_does_not_wait_for_the_statistics_of_scipy():
    """Loading them takes a quarter of a second."""
    script = (
        "import sys, jax, jax.numpy as jnp, mutagrad; a = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=2)); "
        "mutagrad.evolve(jax.random.key(0), a, jnp.ones(()), lambda x: x**2, num_generations=3); "
        "print('scipy.stats' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


# ----------------------------------------------------------------------------------------------------------------------
# Documentation
# ----------------------------------------------------------------------------------------------------------------------


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


def test_public_names_are_documented():
    for name, value in public_names().items():
        if inspect.ismodule(value) or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        text = inspect.getdoc(value)
        assert text, f"{name} has no docstring"
        # The docstring that a NamedTuple makes for itself says nothing.
        assert not text.startswith(f"{value.__name__}("), f"{name} has no docstring of its own"


def test_public_functions_show_an_example():
    # The examples themselves are executed by the doctest run.
    functions = {name: value for name in mutagrad.__all__ if inspect.isfunction(value := getattr(mutagrad, name))}
    assert not [name for name, value in functions.items() if ">>>" not in inspect.getdoc(value)]


CONTRACT = """
elitist comma greedy metropolis logistic boltzmann fixation truncation weighted_recombination mutation_selection evolve
generations executor adapt_sigma as_gradient_transformation theory.normalized_mutation_strength theory.expected_gain
theory.optimal_strength theory.drift theory.diffusion theory.learning_rate theory.equivalent_gradient_descent theory.langevin
mutation.gaussian mutation.sphere mutation.ball mutation.student_t mutation.rademacher mutation.low_rank mutation.scaled
"""


@pytest.mark.parametrize("name", CONTRACT.split())
def test_contract_names_exist(name):
    assert callable(operator.attrgetter(name)(mutagrad))
