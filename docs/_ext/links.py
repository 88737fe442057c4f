"""Links of the built site: every internal one leads to a page and a place that are there, and nothing is loaded from elsewhere.

External links are checked by their form alone, and listed in docs/_build/external_links.txt. `python docs/_ext/links.py`
"""

import json
import os
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

BUILD = Path(__file__).resolve().parents[1] / "_build"
HTML = BUILD / "html"
_LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src")}


class Page(HTMLParser):
    """What a page links to and loads, and the places in it that others may link to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag refers to."""
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)
            elif (tag, name) in _LOADED:
                self.loaded.add(value)
            elif tag == "a" and name == "href":
                self.links.add(value)


def main() -> int:
    """Print what is wrong; the exit status is 1 if anything is."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(HTML.rglob("*.html"))}
    faults, external, number = [], {}, 0
    for path, page in pages.items():
        name = path.relative_to(HTML).as_posix()
        for link in sorted(page.links | page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    faults.append(f"{name} loads {link}")
                elif parts.scheme in ("http", "https"):
                    external.setdefault(link, name)
                    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc) or " " in link:
                        faults.append(f"{name}: {link} is no address")
                elif parts.scheme not in ("mailto", "data"):
                    faults.append(f"{name}: {link} has a scheme of its own")
                continue
            number += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                faults.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                faults.append(f"{name}: {link} names a place that is not there")
    (BUILD / "external_links.txt").write_text("".join(f"{link}\t{page}\n" for link, page in sorted(external.items())))
    print(
        "\n".join(
            [
                *faults,
                f"{len(pages)} pages, {number} internal links, {len(external)} external links, {len(faults)} faults",
            ]
        )
    )
    started = BUILD / "started"
    if started.exists() and not faults:
        seconds = time.time() - float(started.read_text())
        (BUILD / "built.json").write_text(json.dumps({"seconds": round(seconds), "load": round(os.getloadavg()[0], 1)}))
        started.unlink()
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
