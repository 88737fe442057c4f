"""Opens pages in headless Chromium and says in a line of JSON what was seen: drawn charts, errors, accessibility, seconds.

Run with ``python -m verification.browser.check FOLDER PAGE …`` in the environment of ``make browser``; a PAGE is a file or an
address, and screenshots go to FOLDER.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS, THEMES = (390, 1400), ("light", "dark")
DRAWN = "['light', 'dark'].includes(document.documentElement.dataset.drawn)"
MARKS = """() => Object.fromEntries([...document.querySelectorAll('.chart')].map(place => [place.id,
  [...place.querySelectorAll('svg [class*=mark-] > path, svg [class*=mark-] line')].filter(one => {
    const box = one.getBBox(), inAxis = one.closest('.role-axis, .role-legend, .role-axis-grid');
    return !inAxis && box.width + box.height > 2;
  }).length]))"""
"""How many lines, areas, bars and points each chart has, axes and legends left out."""


def opened(browser: Browser, address: str, width: int, theme: str, seen: list[str]) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    page.on("console", lambda said: seen.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("request", lambda asked: seen.append(f"request: {asked.url}") if _is_foreign(asked.url, address) else None)
    page.goto(address)
    page.wait_for_function(DRAWN, timeout=20_000)
    return page


def _is_foreign(url: str, address: str) -> bool:
    return not url.startswith(("data:", "blob:")) and url.split("#")[0] != address


def looked_at(browser: Browser, address: str, name: str, shots: Path) -> list[dict[str, Any]]:
    """A page at both widths, light and dark."""
    rows = []
    for width in WIDTHS:
        for theme in THEMES:
            seen: list[str] = []
            start = time.perf_counter()
            page = opened(browser, address, width, theme, seen)
            seconds = time.perf_counter() - start
            page.screenshot(path=shots / f"{name}-{width}-{theme}.png", full_page=True)
            marks = page.evaluate(MARKS)
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            # axe is let in from outside of the page, whose policy lets nobody in.
            page.evaluate(AXE.read_text())
            found = page.evaluate("async () => (await axe.run()).violations.map(one => [one.id, one.nodes[0].html])")
            rows.append(
                {
                    **{"page": name, "width": width, "theme": theme, "seconds": seconds, "seen": seen},
                    **{"charts": len(marks), "empty": [key for key, number in marks.items() if not number]},
                    **{"over": over, "violations": [f"{rule}: {html[:120]}" for rule, html in found]},
                }
            )
            page.context.close()
    return rows


def behaves(browser: Browser, address: str) -> dict[str, bool]:
    """What a page does: values at the pointer, keys, the logarithmic axis, paper, a theme that changes, no JavaScript."""
    seen: list[str] = []
    page = opened(browser, address, 1400, "light", seen)
    page.locator("#chart-loss").scroll_into_view_if_needed()
    box = page.locator("#chart-loss svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 3)
    page.wait_for_timeout(300)
    tip = page.locator("#vg-tooltip-element")
    values = tip.inner_text() if tip.count() and tip.is_visible() else ""
    done = {"a value stands at the pointer": "generation" in values and "median" in values}
    page.mouse.move(0, 0)
    ticks = page.locator("#chart-loss svg").text_content()
    page.locator("#log-generations").focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(100)
    page.wait_for_function(DRAWN)
    done["the space bar makes the axis of generations logarithmic"] = (
        page.locator("#chart-loss svg").text_content() != ticks
    )
    done["all charts are drawn on it"] = all(page.evaluate(MARKS).values())
    page.locator("details summary").first.focus()
    page.keyboard.press("Enter")
    done["Enter opens the numbers of a chart"] = page.locator("details table").first.is_visible()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.drawn === 'dark'")
    done["the charts follow when the theme changes"] = all(page.evaluate(MARKS).values())
    page.emulate_media(media="print", color_scheme="light")
    pictures = (
        "[...document.querySelectorAll('.paper')].map(one => [one.offsetHeight, one.querySelector('img').naturalWidth])"
    )
    page.wait_for_timeout(300)
    done["on paper each chart is a picture"] = all(all(pair) for pair in page.evaluate(pictures))
    hidden = "[...document.querySelectorAll('.chart')].every(one => one.offsetHeight === 0)"
    done["on paper nothing interactive is left"] = page.evaluate(hidden)
    done["nothing is said on the console"] = not seen
    page.context.close()
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    plain = context.new_page()
    plain.goto(address)
    done["without JavaScript each chart is a picture"] = plain.locator(".paper img").first.is_visible()
    context.close()
    return done


def followed(browser: Browser, address: str) -> dict[str, Any]:
    """A page that is watched, while its run goes on: whether it changes by itself, and is drawn again."""
    page = browser.new_page()
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.goto(address)
    page.wait_for_function(DRAWN, timeout=20_000)
    version = page.evaluate("document.documentElement.dataset.version")
    page.wait_for_function(
        f"document.documentElement.dataset.version !== {json.dumps(version)} && {DRAWN}", timeout=60_000
    )
    return {"errors": seen, "drawn": all(page.evaluate(MARKS).values())}


def main() -> None:
    shots, *pages = sys.argv[1:]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found: dict[str, Any] = {"chromium": browser.version, "rows": [], "behaves": {}, "followed": None}
        for one in pages:
            if one.startswith("http"):
                found["followed"] = followed(browser, one)
                continue
            address = Path(one).resolve().as_uri()
            found["rows"] += looked_at(browser, address, Path(one).stem, Path(shots))
        files = [one for one in pages if not one.startswith("http")]
        if files:
            found["behaves"] = behaves(browser, Path(files[0]).resolve().as_uri())
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
