"""The documentation site in a browser: searched, measured for contrast and width, and cut off from the network.

It needs Chromium, Playwright for Python and axe-core, none of which the library needs: ``pip install playwright``, a Chromium
(``--chromium``, by default /usr/bin/chromium), and ``npm pack axe-core`` (``--axe``, its axe.min.js). Without them it says so and
writes nothing. Run with ``python -m verification.site --axe axe.min.js`` after ``make docs``.
"""

import argparse
import functools
import http.server
import json
import sys
import threading
from pathlib import Path
from typing import Any

from verification import common

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "docs" / "_build"
HTML = BUILD / "html"
SCREENS = BUILD / "screens"
PAGES = (
    "index.html",
    "guide/start.html",
    "guide/sigma.html",
    "recipes/minibatches.html",
    "theory.html",
    "claims/index.html",
    "glossary.html",
    "reference/mutagrad.html",
    "search.html",
)
SEARCHES = {
    "sigma": ("guide/sigma", "recipes/optax_info"),
    "population size": ("glossary", "populations", "theory"),
    "minibatch": ("recipes/minibatches", "reference/mutagrad"),
    "hard attention": ("hard_attention",),
}
"""What is asked, and the pages of which one must be the first answer."""
WIDTHS = (390, 1400)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing of each file."""


def serve() -> tuple[http.server.ThreadingHTTPServer, str]:
    handler = functools.partial(_Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def searched(page: Any, address: str) -> list[list[str]]:
    """For each search the first three answers, and whether the first is one that is sensible."""
    rows = []
    for words, sensible in SEARCHES.items():
        page.goto(f"{address}/search.html?q={words.replace(' ', '+')}")
        page.wait_for_selector("ul.search li a", timeout=20_000)
        page.wait_for_timeout(500)
        links = page.eval_on_selector_all(
            "ul.search li > a", "all => all.slice(0, 3).map(a => [a.innerText, a.pathname])"
        )
        is_met = links[0][1].removeprefix("/").removesuffix(".html") in sensible
        rows.append([words, "; ".join(title for title, _ in links), "yes" if is_met else "no"])
    return rows


def looked_at(browser: Any, address: str, axe: str) -> tuple[list[list[str]], list[str], set[str]]:
    """Each page in light and dark at each width: too wide, in violation, or loading from elsewhere."""
    rows, faults, elsewhere = [], [], set()
    SCREENS.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        row = [name.removesuffix(".html")]
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
                page = context.new_page()
                page.on(
                    "request",
                    lambda request: (
                        elsewhere.add(request.url) if not request.url.startswith((address, "data:")) else None
                    ),
                )
                page.goto(f"{address}/{name}", wait_until="load")
                page.wait_for_function(
                    "() => !window.MathJax?.startup?.promise || MathJax.startup.promise.then(() => true)"
                )
                page.wait_for_timeout(300)
                page.screenshot(
                    path=str(SCREENS / f"{name.replace('/', '_').removesuffix('.html')}.{scheme}.{width}.png")
                )
                excess = page.evaluate("() => document.scrollingElement.scrollWidth - window.innerWidth")
                page.evaluate(axe)
                found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
                serious = [one for one in found if one["impact"] in ("serious", "critical")]
                faults += [
                    f"{name}, {scheme}, {width}: {one['id']} ({len(one['nodes'])}), {one['nodes'][0]['html'][:160]}"
                    for one in serious
                ]
                if excess > 0:
                    faults.append(f"{name}, {scheme}, {width}: {excess} pixels too wide")
                row.append(
                    f"{len(serious)}, {len(found) - len(serious)}, {'fits' if excess <= 0 else f'{excess} px too wide'}"
                )
                context.close()
        rows.append(row)
    return rows, faults, elsewhere


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-write", action="store_true", help="print only; leave verification/results alone")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--axe", default="axe.min.js", help="axe-core's file")
    args = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("verification.site: nothing done; it needs `pip install playwright`, Chromium and axe-core")
        return 0
    if not Path(args.chromium).exists() or not Path(args.axe).exists():
        print(f"verification.site: nothing done; it needs --chromium ({args.chromium}) and --axe ({args.axe})")
        return 0
    if not (BUILD / "built.json").exists():
        print("verification.site: nothing done; run `make docs` first")
        return 0
    built_in = json.loads((BUILD / "built.json").read_text())
    load = f", load at the end {built_in['load']:.1f}" if "load" in built_in else ""
    sections = [
        f"`make docs` took {built_in['seconds']:.0f} s, its environment being there{load}. Demanded: at most 600 s on 2 cores."
    ]
    pages = json.loads((BUILD / "pages.json").read_text())
    built = sorted(HTML.rglob("*.html"))
    size = sum(path.stat().st_size for path in HTML.rglob("*") if path.is_file())
    notebooks = [
        path
        for path in (ROOT / "docs").rglob("*.md")
        if "_build" not in path.parts and "{code-cell}" in path.read_text()
    ]
    entries = sum(path.read_text().count('<dt class="sig sig-object py"') for path in built)
    external = (BUILD / "external_links.txt").read_text().count("\n")
    sections.append(
        f"{sum(page.endswith('.md') for page in pages)} pages of text, {len(notebooks)} of them run by the build; {entries} "
        f"entries in the reference; {external} external links, checked by their form; {size / 2**20:.0f} MB."
    )
    axe = Path(args.axe).read_text()
    # The record names the file, not where it lay.
    sys.argv = [Path(word).name if word in (args.axe, args.chromium) else word for word in sys.argv]
    server, address = serve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        version = browser.version
        answers = searched(browser.new_page(), address)
        rows, faults, elsewhere = looked_at(browser, address, axe)
        browser.close()
    server.shutdown()
    sections += [
        table(["search for", "first answers", "the first is sensible"], answers),
        "Violations that axe-core calls serious or critical, others, and whether the page fits its width:",
        table(["page", *(f"{scheme}, {width} px" for scheme in ("light", "dark") for width in WIDTHS)], rows),
        f"Requests to other hosts: {len(elsewhere)}. Serious violations and pages too wide: {len(faults)}.",
    ]
    faults += [f"loads {url}" for url in sorted(elsewhere)]
    faults += [f"search: {row[0]} finds {row[1]}" for row in answers if row[2] == "no"]
    common.report(
        "site", sections, args, f"; Chromium {version.split('.')[0]}, axe-core {axe.split()[2].removeprefix('v')}"
    )
    print("\n".join(faults))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
