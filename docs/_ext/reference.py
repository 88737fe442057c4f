"""The reference: a directive that lists public names, docstrings as reStructuredText, and a check that none is missing.

The directive names what a page documents::

    ```{reference} mutagrad.theory
    drift
    diffusion
    ```

Its parser (`listed`) is that of the tests too.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

NESTED = ("theory.population", "diagnostics.landscape", "estimate", "report", "report.text")
LAB = ("lab.tasks", "lab.training", "lab.claims")
_LISTED = re.compile(r"```\{reference\} (\S+)\n(.*?)```", re.DOTALL)
_SECTIONS = ("Parameters", "Returns", "Raises", "Attributes", "Yields", "Methods")


def public_modules() -> list[str]:
    """Modules whose `__all__` the reference must hold: the rooms, and the lab's tasks, training and claims."""
    package = importlib.import_module("mutagrad")
    found = ["mutagrad", *(f"mutagrad.{name}" for name in (*package._ROOMS, *NESTED))]
    found += ["mutagrad.trackers"] if importlib.util.find_spec("mutagrad.trackers") else []
    for name in ("report", *LAB):
        package = importlib.import_module(f"mutagrad.{name}")
        # A package inside the claims is a work: its claims are on the page of claims.
        found += sorted(
            f"mutagrad.{name}.{one.name}" for one in pkgutil.iter_modules(package.__path__) if not one.ispkg
        )
    return [name for name in dict.fromkeys(found) if public(name)]


def public(module: str) -> list[str]:
    """The public names of a module: its `__all__`; of `mutagrad.tree`, which has none, the functions that it defines."""
    found = importlib.import_module(module)
    own = [
        name
        for name, one in vars(found).items()
        if inspect.isfunction(one) and one.__module__ == module and name[0] != "_"
    ]
    return list(getattr(found, "__all__", own if module == "mutagrad.tree" else []))


def listed(text: str) -> dict[str, list[str]]:
    """The names that a page documents, by module."""
    found: dict[str, list[str]] = {}
    for module, names in _LISTED.findall(text):
        found.setdefault(module, []).extend(names.split())
    return found


def missing(pages: list[Path]) -> list[str]:
    """Public names that no page lists, and listed names that are not public."""
    on_pages: dict[str, set[str]] = {}
    for page in pages:
        for module, names in listed(page.read_text(encoding="utf-8")).items():
            on_pages.setdefault(module, set()).update(names)
    faults = []
    for module in public_modules():
        names, shown = set(public(module)), on_pages.pop(module, set())
        faults += [f"{module}.{name} is in no page of the reference" for name in sorted(names - shown)]
        faults += [f"{module}.{name} is listed, and not public" for name in sorted(shown - names)]
    return faults + [f"{module} is listed, and no public module" for module in sorted(on_pages)]


def _places() -> dict[str, str]:
    """The full name that a name in single backquotes means: `elitist`, `mutagrad.elitist` and `theory.drift` alike."""
    found: dict[str, str] = {}
    for module in reversed(public_modules()):
        for name in public(module):
            found[f"{module}.{name}"] = found[name] = f"{module}.{name}"
            found[f"{module.removeprefix('mutagrad.')}.{name}"] = f"{module}.{name}"
    return found


_SPAN = re.compile(r"(``.+?``|`[^`]+`)")


def _text(line: str, places: dict[str, str], module: str) -> str:
    """One line of prose: names become links, and marks of reStructuredText that are none become letters."""
    parts = _SPAN.split(line)
    made = []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            made.append(re.sub(r"([\\*|_])", r"\\\1", part))
            continue
        if not part.startswith("``"):
            name = part[1:-1].removesuffix("()")
            own = name if name.startswith(f"{module}.") and name in places else places.get(f"{module}.{name}")
            full = own or places.get(name)
            part = f":py:obj:`{name} <{full}>`" if full else f"`{part}`"
        # Marks must stand apart from letters.
        before = "\\ " if re.search(r"[\w\\]$", parts[i - 1]) else ""
        after = "\\ " if re.match(r"\w", parts[i + 1]) else ""
        made.append(before + part + after)
    return "".join(made)


def as_rest(lines: list[str], places: dict[str, str], module: str) -> list[str]:
    """A docstring of this project as reStructuredText: sections become definition lists, prose is escaped, examples stay."""
    made: list[str] = []
    section, i = "", 0
    while i < len(lines):
        line = lines[i]
        if line.strip() in _SECTIONS and i + 1 < len(lines) and set(lines[i + 1].strip()) == {"-"}:
            section = line.strip()
            made += ["", f".. rubric:: {section}", ""]
            i += 2
            continue
        if line.startswith(">>>"):
            section = ""
            made += ["", ".. code-block:: pycon", ""]
            while i < len(lines) and lines[i].strip():
                made.append("   " + lines[i])
                i += 1
            made.append("")
            continue
        if not line.strip():
            nxt = next((one for one in lines[i:] if one.strip()), "")
            if section and not re.match(r"\s|[\w*`]+[^.]* : ", nxt):
                section = ""
            made.append("")
        elif section and not line.startswith(" ") and (match := re.match(r"([\w*`., ]+?) : (.*)", line)):
            names = ", ".join(f"``{name.strip(' `')}``" for name in match[1].split(","))
            made += [names, "    " + _text(match[2], places, module)]
        elif section and (line.startswith(" ") or (made and made[-1].startswith("    "))):
            # A line of its own under a term belongs to it; lists keep their shape.
            made.append("    " + " " * max(len(line) - len(line.lstrip()) - 4, 0) + _text(line.strip(), places, module))
        else:
            made.append(_text(line, places, module))
        i += 1
    return made


def _methods(found: type) -> list[str]:
    """Methods and properties of a class of ours that have docstrings; fields are in the docstring of the class."""
    return [
        name
        for name, member in vars(found).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, property | classmethod | staticmethod))
        and inspect.getdoc(getattr(found, name, None))
        and name not in getattr(found, "_fields", ())
        and not (dataclasses.is_dataclass(found) and name in {field.name for field in dataclasses.fields(found)})
    ]


def entry(module: str, name: str, seen: dict[int, str]) -> list[str]:
    """The lines of reStructuredText that document one name."""
    full, found = f"{module}.{name}", getattr(importlib.import_module(module), name)
    if inspect.ismodule(found):
        return [f"``{full}`` is a module, and has a section of its own.", ""]
    if (inspect.isfunction(found) or inspect.isclass(found)) and seen.setdefault(id(found), full) != full:
        kind = "class" if inspect.isclass(found) else "function"
        return [f".. py:{kind}:: {full}", "", f"   The same as :py:obj:`{seen[id(found)]}`.", ""]
    if inspect.isclass(found):
        methods = ", ".join(_methods(found))
        return [f".. autoclass:: {full}", *([f"   :members: {methods}"] if methods else []), ""]
    return [f".. {'autofunction' if inspect.isroutine(found) else 'autodata'}:: {full}", *_no_value(found), ""]


def _no_value(found: Any) -> list[str]:
    return [] if inspect.isroutine(found) or isinstance(found, int | float | str) else ["   :no-value:"]


def setup(app: Any) -> dict[str, Any]:
    """Register the directives, the conversion of docstrings and the check of completeness."""
    from docutils import nodes
    from sphinx.util import logging
    from sphinx.util.docutils import SphinxDirective

    log = logging.getLogger(__name__)
    places = _places()
    # The first place of an object is where it is described: that of the package, for what the package names.
    seen: dict[int, str] = {}
    for module in public_modules():
        for name in public(module):
            found = getattr(importlib.import_module(module), name)
            if inspect.isfunction(found) or inspect.isclass(found):
                seen.setdefault(id(found), f"{module}.{name}")

    class Reference(SphinxDirective):
        """Document the names of a module that the content lists."""

        required_arguments = 1
        has_content = True

        def run(self) -> list[Any]:
            lines = ["```{eval-rst}"]
            for name in " ".join(self.content).split():
                lines += entry(self.arguments[0], name, seen)
            return self.parse_text_to_nodes("\n".join([*lines, "```"]), allow_section_headings=True)

    class CommandLine(SphinxDirective):
        """What ``mutagrad [COMMAND] --help`` says."""

        optional_arguments = 1

        def run(self) -> list[Any]:
            asked = [sys.executable, "-m", "mutagrad.cli", *self.arguments, "--help"]
            said = subprocess.run(asked, capture_output=True, text=True, check=True, env=_environment()).stdout
            return [nodes.literal_block(said, said, language="text")]

    def converted(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        module = next(
            (one for one in sorted(public_modules(), key=len, reverse=True) if name.startswith(f"{one}.")), "mutagrad"
        )
        if inspect.isclass(obj) or what in ("function", "method", "property", "class", "data", "attribute"):
            lines[:] = as_rest(list(lines), places, module)

    def complete(app: Any, env: Any) -> None:
        for fault in missing(sorted(Path(app.srcdir).rglob("reference/*.md"))):
            log.warning(fault)

    app.add_directive("reference", Reference)
    app.add_directive("command-line", CommandLine)
    app.connect("autodoc-process-docstring", converted)
    app.connect("env-updated", complete)
    return {"version": "1", "parallel_read_safe": False}


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
