"""Lay out the pages of the site in docs/_build/source: the documents, and the pages that are made of committed data.

Made here: theory.md with the figure and the verdict of the claims that test each law; a page for the claims of each work; a page
for each table under benchmarks/results and verification/results; and the references of the paper. `python docs/_ext/stage.py`
"""

import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import mathjax
from laws import LAWS
from needs import absent_in, missing, unlinked

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BUILD = DOCS / "_build"
SOURCE = BUILD / "source"
WORKS = {
    "whitelam2021": "Whitelam, Selin, Park and Tamblyn 2021",
    "whitelam2026": "Whitelam 2026",
    "kucharavy2023": "Kucharavy, Guerraoui and Dolamic 2023",
    "sourbut2022": "Sourbut 2022",
}
TABLES = {"benchmarks": "Speed and memory", "verification": "Statistics and faults"}
PROJECT = {"CONTRIBUTING.md": "project/contributing.md", "CHANGELOG.md": "project/changelog.md"}
_LINK = re.compile(r"(?<!\\)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def escaped(text: str) -> str:
    """Text as Markdown that shows it letter by letter."""
    return re.sub(r"([\\*_|<>$\[\]`#])", r"\\\1", text)


def write(path: str, text: str) -> None:
    """Write a page, unless it is there and the same: what has not changed need not be read again."""
    target = SOURCE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and target.read_text(encoding="utf-8") == text):
        target.write_text(text, encoding="utf-8")


def relative(target: str, page: str) -> str:
    """The way from one page to another."""
    return "../" * page.count("/") + target


def linked(text: str, home: str, page: str) -> str:
    """Links of a document that stood in ``home`` as links of the page: what is not a page of the site is a file of it."""

    def replaced(match: re.Match) -> str:
        path, anchor = match[1], match[2] or ""
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        place = (ROOT / home / path).resolve()
        if not place.exists():
            return match[0]
        name = place.relative_to(ROOT).as_posix()
        if name == "README.md" or name == "docs":
            target = "index.md"
        elif name in PROJECT:
            target = PROJECT[name]
        elif name.startswith("docs/"):
            target = name.removeprefix("docs/")
        elif name in ("benchmarks/results", "verification/results"):
            target = "results/index.md"
        elif re.match(r"(benchmarks|verification)/results/", name):
            target = "results/" + name.replace("/results/", "/")
        else:
            target = f"files/{name}"
            (SOURCE / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(place, SOURCE / target)
        return f"]({relative(target, page)}{anchor})"

    pieces = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(piece if i % 2 else _LINK.sub(replaced, piece) for i, piece in enumerate(pieces))


def documents() -> set[str]:
    """Copy the documents; returns the pages there are now."""
    pages = set()
    for path in sorted(DOCS.rglob("*")):
        name = path.relative_to(DOCS).as_posix()
        if path.is_dir() or name.startswith(("_", ".")) or "__pycache__" in name or path.suffix == ".txt":
            continue
        # Modules that notebooks import stand beside them.
        if path.suffix == ".py" and "/" not in name:
            continue
        if name == "README.md":
            continue
        if path.suffix == ".md" and (absent := missing(path.read_text(encoding="utf-8"))):
            print(f"{name}: left out, since it needs {absent}")
            continue
        pages.add(name)
        if path.suffix == ".md":
            text = linked(path.read_text(encoding="utf-8"), path.parent.relative_to(ROOT).as_posix(), name)
            write(name, _special(name, text))
        else:
            target = SOURCE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
                shutil.copy2(path, target)
    return pages


OPTIONAL = ("gallery/index", "run_page", "trackers")
"""Pages that the table of contents names, and that need not be there."""


def _special(name: str, text: str) -> str:
    if name == "index.md":
        for page in OPTIONAL:
            if not any((DOCS / f"{page}.{kind}").exists() for kind in ("md", "ipynb", "rst")):
                text = text.replace(f"\n{page}\n", "\n", 1)
        return text
    if name == "theory.md":
        return with_claims(text)
    if name == "gallery/index.md" and "{toctree}" not in text:
        absent = absent_in(DOCS / "gallery")
        text = unlinked(text, absent)
        names = sorted(
            {path.stem for path in (DOCS / "gallery").glob("*.md")} - {"index"} - {Path(page).stem for page in absent}
        )
        return "\n".join([text.rstrip(), "", "```{toctree}", ":hidden:", *names, "```", ""])
    return with_references(text, DOCS / "paper.bib") if name == "paper.md" else text


def _verdict(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return "not run"
    addition = f", and what this project adds: **{verdict['addition']}**" if "addition" in verdict else ""
    return f"**{verdict['verdict']}**{addition}"


def _figure(claim: Any, caption: str, page: str) -> str:
    from mutagrad.lab.claims.verdicts import last_of

    last = last_of(claim)
    path = f"claims/{claim.id}.{last['settings']['scale']}.png" if last else ""
    if not last or not (DOCS / path).exists():
        return caption + "\n"
    alt = claim.statement.replace("\n", " ")
    return f":::{{figure}} /{path}\n:alt: {alt}\n\n{caption}\n:::\n"


def with_claims(text: str) -> str:
    """theory.md with the claims that test a law, their figures and verdicts, at the end of its section."""
    from mutagrad.lab.claims.reproduction import claims
    from mutagrad.lab.claims.verdicts import last_of
    from mutagrad.lab.claims.words import standing

    by_id = {claim.id: claim for claim in claims()}
    parts = re.split(r"^(?=#{2,3} )", text, flags=re.MULTILINE)
    first: dict[str, str] = {}
    made = []
    for part in parts:
        match = re.match(r"### (\d+\.\d+) ", part)
        for name in LAWS.get(match[1], ()) if match else ():
            claim = by_id[name]
            last = last_of(claim)
            caption = (
                f"Claim [{name}](#claim-{name.lower()}) {_verdict(last)} ({standing(claim, last)}, "
                f"{last['date'] if last else 'no date'}). `mutagrad reproduce {name}`"
            )
            # A figure is shown once, where the first of its laws is.
            if name in first:
                part += f"{caption} Its figure is in section {first[name]}.\n\n"
            else:
                first[name] = match[1]
                part += _figure(claim, caption, "theory.md") + "\n"
        made.append(part)
    laws = re.findall(r"^### (\d+\.\d+) ", text, flags=re.MULTILINE)
    note = (
        "Under a law stand the claims that test it, with figure and verdict as `mutagrad claims` has them: "
        f"{sum(law in LAWS for law in laws)} of {len(laws)} laws have one, and all have tests.\n\n"
    )
    return "".join(made).replace("## Notation", note + "## Notation", 1)


def claim_pages() -> set[str]:
    """A page of all claims in a table, and one for each work."""
    from mutagrad.lab.claims.reproduction import claims
    from mutagrad.lab.claims.verdicts import committed, last_of
    from mutagrad.lab.claims.words import standing

    found, every = claims(), committed()
    counts: dict[str, int] = {}
    rows = []
    for claim in found:
        last = last_of(claim)
        outcome = last["verdict"] if last else "not run"
        counts[outcome] = counts.get(outcome, 0) + 1
        rows.append(
            f"| [{claim.id}](#claim-{claim.id.lower()}) | {outcome} | {(last or {}).get('addition', '')} | "
            f"{standing(claim, last)} | {escaped(claim.statement)} |"
        )
    write(
        "claims/index.md",
        "\n".join(
            [
                "# Claims",
                "",
                "A claim is what a work says, with the intervals that decide it. They are stated before the run. A check holds "
                "if the measured value ± 3 standard errors lies inside its interval, does not hold if all of it lies outside, "
                "and is undecided else. A claim holds if all its checks do. P is what this project adds to the source, with a "
                "verdict of its own. *Registered* means stated before the run and measured by the code of now; *stale* means "
                "that the code or the statement has changed since.",
                "",
                f"Of {len(found)} claims " + ", ".join(f"{number} {what}" for what, number in counts.items()) + ".",
                "",
                "```\nmutagrad claims                 # this table\nmutagrad reproduce W21-9        # decide one\n```",
                "",
                "| claim | verdict | P | as | statement |",
                "|---|---|---|---|---|",
                *rows,
                "",
                "```{toctree}\n:hidden:\n" + "\n".join(WORKS) + "\n```",
                "",
            ]
        ),
    )
    for work, title in WORKS.items():
        lines = [f"# {title}", "", f"`mutagrad reproduce {work}` decides these claims.", ""]
        for claim in found:
            if claim.work == work:
                lines += [
                    f"(claim-{claim.id.lower()})=",
                    f"## {claim.id}: {escaped(claim.figure)}",
                    "",
                    escaped(claim.statement),
                    "",
                ]
                for scale in claim.settings:
                    if (claim.id, scale) in every:
                        lines += _section(claim, every[claim.id, scale])
                laws = [law for law, names in LAWS.items() if claim.id in names]
                if laws:
                    lines += ["It tests theory " + ", ".join(laws) + ".", ""]
        write(f"claims/{work}.md", "\n".join(lines))
    return {"claims/index.md", *(f"claims/{work}.md" for work in WORKS)}


def _section(claim: Any, verdict: dict[str, Any]) -> list[str]:
    from mutagrad.lab.claims.words import from_runs, interval, number, standing

    scale = verdict["settings"]["scale"]
    path = f"claims/{claim.id}.{scale}.png"
    caption = (
        f"Scale {scale}: {_verdict(verdict)}. {verdict['date']}, {verdict['seconds']:g} s, {standing(claim, verdict)}. "
        f"`mutagrad reproduce {claim.id} --scale {scale}`"
    )
    alt = claim.statement
    lines = [f":::{{figure}} /{path}\n:alt: {alt}\n\n{caption}\n:::", ""] if (DOCS / path).exists() else [caption, ""]
    rows = [
        f"| {'P: ' if check['is_ours'] else ''}{escaped(check['what'])} | {number(check['value'])} ± "
        f"{number(check['error'], 2)}{from_runs(check)} | {escaped(interval(check['low'], check['high']))} | {check['verdict']} |"
        for check in verdict["checks"]
    ]
    return [*lines, "| check | measured ± standard error | interval | verdict |", "|---|---|---|---|", *rows, ""]


def result_pages() -> set[str]:
    """The committed tables as pages, with an index."""
    index = ["# Measured", "", "Every table has its date, machine and command.", ""]
    pages = set()
    for room, title in TABLES.items():
        names = sorted(path.stem for path in (ROOT / room / "results").glob("*.md"))
        index += [f"## {title}", ""]
        for name in names:
            page = f"results/{room}/{name}.md"
            text = (ROOT / room / "results" / f"{name}.md").read_text(encoding="utf-8")
            write(page, linked(text, f"{room}/results", page))
            pages.add(page)
            command = re.search(r"command: (`[^`]+`)", text)
            index.append(f"- [{name.replace('_', ' ')}]({room}/{name}.md): {command[1] if command else ''}")
        for path in (ROOT / room / "results").glob("*.png"):
            shutil.copy2(path, SOURCE / "results" / room / path.name)
            pages.add(f"results/{room}/{path.name}")
        index += ["", "```{toctree}", ":hidden:", *(f"{room}/{name}" for name in names), "```", ""]
    write("results/index.md", "\n".join(index))
    return pages | {"results/index.md"}


def with_references(text: str, bibliography: Path) -> str:
    """The paper with its citations ``[@key]`` as links to a list of references, made of the bibliography."""
    entries: dict[str, dict[str, str]] = {}
    for entry in re.findall(
        r"^@\w+\{(\w+),\n(.*?)^\}", bibliography.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        entries[entry[0]] = dict(re.findall(r"^\s*(\w+) = \{(.*)\},?$", entry[1], re.MULTILINE))
    used: list[str] = []

    def cited(match: re.Match) -> str:
        keys = re.findall(r"@(\w+)", match[0])
        used.extend(key for key in keys if key not in used)
        return (
            "("
            + "; ".join(f"[{_authors(entries[key])} {entries[key]['year']}](#ref-{key.lower()})" for key in keys)
            + ")"
        )

    text = re.sub(r"\[@[^\]]+\]", cited, text)
    text = re.sub(r"\A---\n.*?\n---\n", "# Paper\n", text, flags=re.DOTALL)
    lines = []
    for key in sorted(used, key=lambda one: _authors(entries[one])):
        one = entries[key]
        where = ", ".join(one[field] for field in ("journal", "booktitle", "publisher", "note") if field in one)
        url = f"https://doi.org/{one['doi']}" if "doi" in one else one.get("url", "")
        names = one["author"].replace(" and ", "; ")
        lines += [f"(ref-{key.lower()})=", f"- {names} ({one['year']}). {one['title']}. {where}. <{url}>", ""]
    return text.rstrip().removesuffix("# References").rstrip() + "\n\n## References\n\n" + "\n".join(lines)


def _authors(entry: dict[str, str]) -> str:
    names = [name.split(",")[0] for name in entry["author"].split(" and ")]
    return names[0] if len(names) == 1 else f"{names[0]} and {names[1]}" if len(names) == 2 else f"{names[0]} et al."


def scripts() -> None:
    """MathJax, beside the site's own static files: pages load nothing from elsewhere."""
    target = BUILD / "static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    package = Path(mathjax.__file__).parent / "static" / "mathjax" / "es5"
    shutil.copy2(package / "tex-svg-full.js", target)


def main() -> int:
    """Lay out all pages, and take away those that are no more."""
    SOURCE.mkdir(parents=True, exist_ok=True)
    (BUILD / "started").write_text(str(time.time()))
    pages = documents() | claim_pages() | result_pages()
    for name, page in PROJECT.items():
        write(page, linked((ROOT / name).read_text(encoding="utf-8"), ".", page))
        pages.add(page)
    for path in SOURCE.rglob("*"):
        name = path.relative_to(SOURCE).as_posix()
        if path.is_file() and name not in pages and not name.startswith("files/"):
            path.unlink()
    scripts()
    (BUILD / "pages.json").write_text(json.dumps(sorted(pages)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
