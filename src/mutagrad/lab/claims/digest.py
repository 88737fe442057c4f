"""Digests of code: what a verdict came from, so that it goes stale when that has changed.

A digest covers a module and what it uses of this package, by its imports, wherever they lead. Docstrings, comments and blank
lines do not count, nor what draws figures: `mutagrad.report`, and in modules of claims the functions whose names begin with
"draw_".
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mutagrad

__all__ = ["digest", "modules_of"]

_SOURCE = Path(mutagrad.__file__).parent
_UNCOUNTED = ("mutagrad.report",)
_CLAIMS = "mutagrad.lab.claims."
LENGTH = 16
"""Hexadecimal digits of a digest."""


def digest(*modules: str, follow: bool = True) -> str:
    """Digest of modules, and of all that they use of this package.

    Parameters
    ----------
    modules : dotted names. follow : whether to follow their imports; without, the digest is of these modules alone.

    >>> from mutagrad.lab.claims.digest import digest
    >>> len(digest("mutagrad.tree"))
    16
    """
    covered = sorted(set().union(*(modules_of(one) for one in modules))) if follow else sorted(modules)
    text = "\n".join(f"{name} {_of_module(name)}" for name in covered)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def modules_of(module: str) -> frozenset[str]:
    """A module and all modules of this package that it uses, dotted names; what draws figures is left out.

    >>> from mutagrad.lab.claims.digest import modules_of
    >>> sorted(modules_of("mutagrad.tree"))[-1]
    'mutagrad.tree'
    """
    found: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        if name not in found and not name.startswith(_UNCOUNTED):
            found.add(name)
            left += _used_by(name)
    return frozenset(found)


def _path(module: str) -> Path | None:
    """The file of a dotted name, or ``None`` where there is none."""
    place = _SOURCE.joinpath(*module.split(".")[1:])
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _is_package(module: str) -> bool:
    path = _path(module)
    return path is not None and path.name == "__init__.py"


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


def _resolve(package: str, name: str) -> str:
    """The module in which a name of a package lives, through what the package hands on."""
    if not _is_package(package):
        return package
    if _path(f"{package}.{name}"):
        return f"{package}.{name}"
    if package == "mutagrad" and name in mutagrad._MODULE_OF:
        return _resolve(f"mutagrad.{mutagrad._MODULE_OF[name]}", name)
    for node in ast.walk(_tree(package)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mutagrad"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _resolve(node.module, alias.name)
    return package


@cache
def _used_by(module: str) -> frozenset[str]:
    """The modules that one uses, by its imports and by the attributes that it takes of packages."""
    tree = _tree(module)
    bound: dict[str, str] = {}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mutagrad":
                    bound[alias.asname or "mutagrad"] = alias.name if alias.asname else "mutagrad"
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mutagrad":
            for alias in node.names:
                home = _resolve(node.module, alias.name)
                bound[alias.asname or alias.name] = home
                if not _is_package(home):
                    found.add(home)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            names = list(_chain(node))
            if names and names[0] in bound:
                home = bound[names[0]]
                for name in names[1:]:
                    home = _resolve(home, name)
                found.add(home)
    return frozenset(found - {module, "mutagrad"})


def _chain(node: ast.expr) -> Iterator[str]:
    """The names of a.b.c, one after the other; nothing of other expressions."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        names = list(_chain(node.value))
        if names:
            yield from [*names, node.attr]


@cache
def _of_module(module: str) -> str:
    """Digest of the lines of a module that count."""
    path = _path(module)
    assert path is not None, module
    left_out: set[int] = set()
    for node in ast.walk(_tree(module)):
        body = getattr(node, "body", None)
        if module.startswith(_CLAIMS) and isinstance(node, ast.FunctionDef) and node.name.startswith("draw_"):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(body, list) and body and _is_text(body[0]):
            left_out |= set(range(body[0].lineno, (body[0].end_lineno or body[0].lineno) + 1))
    lines = path.read_text(encoding="utf-8").splitlines()
    counted = [
        line.rstrip()
        for number, line in enumerate(lines, 1)
        if number not in left_out and line.strip() and not line.strip().startswith("#")
    ]
    return hashlib.sha256("\n".join(counted).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
