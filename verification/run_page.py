"""Pages of real runs in headless Chromium: drawn, without an error, legible to all, quick, and on paper.

Makes runs of every kind that the page knows, a run of 10⁶ generations too, writes their pages, and opens each at 390 and 1400
pixels, light and dark. Needs the environment of ``make browser``, Chromium, and the ``report`` extra.
Run with ``python -m verification.run_page``; ``--keep 1`` leaves runs, pages and screenshots in runs/run_page.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import mutagrad
from mutagrad.cli import main as command
from mutagrad.report.page import page
from verification import common

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".browser" / "bin" / "python"
KEPT = ROOT / "runs" / "run_page"
MOST_SECONDS, MOST_MEGABYTES = 2.0, 5.0
"""That a page of 10⁶ generations may take to open, and weigh."""
RUNS = {
    "automatic": ("--generations", "1500"),
    "too-small": ("--generations", "800", "--sigma", "0.002", "--seed", "1"),
    "batches": ("--generations", "600", "--batch-size", "64", "--algorithm", "weighted_recombination"),
    "layers": ("--generations", "300", "--widths", "32,16", "--shared-layers", "1", "--shared-generations", "3"),
    "one": ("--generations", "1"),
}


def made(folder: Path, generations: int) -> list[Path]:
    """The pages of all runs, the first of which is tried out."""
    pages = []
    for name, words in RUNS.items():
        assert command(["train", "--quiet", "--out", str(folder / name), *words]) == 0
        pages.append(folder / f"{name}.html")
        extra = ["--diagnose"] if name == "automatic" else []
        assert command(["report", str(folder / name), "--out", str(pages[-1]), *extra]) == 0
    pages.append(folder / "compared.html")
    both = [str(folder / name) for name in ("automatic", "too-small")]
    assert command(["report", *both, "--out", str(pages[-1])]) == 0
    algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=4))
    noise = jnp.sin(jnp.arange(7.0))

    def loss_fn(x: Any) -> Any:
        return (x - noise) ** 2 + 1

    mutagrad.evolve(
        jax.random.key(0), algorithm, jnp.ones(1), loss_fn, generations, checkpoint=folder / "million", progress=False
    )
    pages.append(folder / "million.html")
    page(folder / "million", algorithm=algorithm, out=pages[-1])
    return pages


def seen(shots: Path, *pages: Path | str) -> dict[str, Any]:
    """What verification/browser/check.py says of some pages."""
    words = [str(PYTHON), "-m", "verification.browser.check", str(shots), *map(str, pages)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def watched(folder: Path) -> dict[str, Any]:
    """A run that goes on while its page is open."""
    words = [sys.executable, "-m", "mutagrad.cli"]
    training = subprocess.Popen([*words, "train", "--quiet", "--out", str(folder / "live"), "--seconds", "45"])
    try:
        while not (folder / "live" / "checkpoint" / "history.journal").exists():
            time.sleep(0.5)
        time.sleep(3)
        serving = subprocess.Popen(
            [*words, "report", str(folder / "live"), "--watch"], stdout=subprocess.PIPE, text=True
        )
        try:
            line = serving.stdout.readline()
            return seen(folder, line.split()[1])["followed"]
        finally:
            serving.terminate()
            serving.wait()
    finally:
        training.terminate()
        training.wait()


def table(found: dict[str, Any], folder: Path) -> list[str]:
    rows = []
    for one in found["rows"]:
        weight = (folder / f"{one['page']}.html").stat().st_size / 1e6
        rows.append(
            f"| {one['page']} | {one['width']} | {one['theme']} | {one['charts']} | {len(one['empty'])} | {len(one['seen'])} | "
            f"{len(one['violations'])} | {max(one['over'], 0)} | {one['seconds']:.2f} | {weight:.2f} |"
        )
    return [
        "| page | pixels | theme | charts | empty | console and network | axe | pixels too wide | s to open | MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]


def faults(found: dict[str, Any], live: dict[str, Any], folder: Path) -> list[str]:
    """What is not as it should be."""
    wrong = [f"{name}: no" for name, is_so in found["behaves"].items() if not is_so]
    for one in found["rows"]:
        of = f"{one['page']} at {one['width']}, {one['theme']}"
        wrong += [f"{of}: {what}" for what in (*one["seen"], *one["violations"])]
        wrong += [f"{of}: {name} is empty" for name in one["empty"]]
        wrong += [f"{of}: {one['over']} pixels too wide"] * (one["over"] > 0)
    seconds = statistics.median(one["seconds"] for one in found["rows"] if one["page"] == "million")
    wrong += [f"million: {seconds:.2f} s"] * (seconds > MOST_SECONDS)
    weight = (folder / "million.html").stat().st_size / 1e6
    wrong += [f"million: {weight:.2f} MB"] * (weight > MOST_MEGABYTES)
    wrong += live["errors"] + ["watched: not drawn again"] * (not live["drawn"])
    return wrong


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "NO"


def main() -> None:
    args = common.arguments(__doc__, generations=10**6, keep=0)
    if not PYTHON.exists():
        raise SystemExit("browser: not installed; run make browser")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = KEPT if args.keep else Path(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pages = made(folder, args.generations)
        found = seen(folder, *pages)
        live = watched(folder)
        wrong = faults(found, live, folder)
        lines = table(found, folder)
    axe = json.loads((ROOT / "verification/browser/package.json").read_text())["dependencies"]["axe-core"]
    sections = [
        f"Runs of the digits, and one parameter over {args.generations:,} generations (million). A chart is empty if it has no "
        "line, area, bar or point longer than two pixels. Console and network: messages of any kind, and requests for anything "
        f"but the page. axe: rules of axe-core {axe} that are violated, all of them. A page is open when its last chart is "
        f"drawn; million may take {MOST_SECONDS:g} s for that in the median of four, and weigh {MOST_MEGABYTES:g} MB.",
        "\n".join(lines),
        "\n".join(["What the first page does:\n", *(f"- {name}: {_yes(so)}" for name, so in found["behaves"].items())]),
        f"Watched while its run went on, a page changed by itself and was drawn again: {_yes(live['drawn'])}.",
        "As it should be: " + ("yes." if not wrong else "NO.\n\n" + "\n".join(f"- {one}" for one in wrong)),
    ]
    software = (f"software: {common.versions('altair', 'vl-convert-python', 'jax')}, Chromium {found['chromium']}",)
    common.report(
        "run_page", sections, args, f", load average {os.getloadavg()[0]:.1f}", time.perf_counter() - start, software
    )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
