"""Pages that are made only where what they need is: a module that `make docs` does not install, or the files of MNIST."""

import importlib.util
import os
import re
from pathlib import Path


def missing(text: str) -> str:
    """What a page needs and is not here: its front matter says ``needs: NAME``, a module, or mnist for its files."""
    match = re.match(r"---\n.*?^needs: (\S+)$.*?^---$", text, re.DOTALL | re.MULTILINE)
    if match is None:
        return ""
    if match[1] == "mnist":
        folder = os.environ.get("MUTAGRAD_DATA", "")
        return "" if folder and list(Path(folder).rglob("train-images-idx3-ubyte*")) else "MNIST in $MUTAGRAD_DATA"
    return "" if importlib.util.find_spec(match[1]) else match[1]


def absent_in(folder: Path) -> dict[str, str]:
    """The pages of a folder that cannot be made here, and what each needs."""
    found = {path.name: missing(path.read_text(encoding="utf-8")) for path in folder.glob("*.md")}
    return {page: need for page, need in found.items() if need}


def unlinked(text: str, absent: dict[str, str]) -> str:
    """A list of pages whose links to absent ones are words."""

    def replaced(match: re.Match) -> str:
        need = absent.get(match[2])
        return f"{match[1]} (not made here: it needs {need})" if need else match[0]

    return re.sub(r"\[([^\]]*)\]\((?:[\w.]+/)*(\w+\.md)\)", replaced, text)
