"""The site's build: `make docs`. The pages are those that `docs/_ext/stage.py` has laid out in docs/_build/source."""

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "mutagrad"
author = "The mutagrad authors"
project_copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton", "reference", "spelling"]
language = "en_GB"
exclude_patterns = ["README.md", "words.txt", "requirements.txt"]

# Markdown. Headings have anchors to level 3, as theory.md links need.
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["mystnb.unknown_mime_type"]

# Notebooks are run by every build, and one that fails ends it.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_number_source_lines = False

# The reference: docstrings are turned into reStructuredText by reference.py.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
toc_object_entries_show_parents = "hide"

# Mathematics: MathJax comes from the environment of the build, and formulas are drawn without fonts from elsewhere.
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

html_theme = "furo"
html_title = "mutagrad"
html_static_path = ["_static", "_build/static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(HERE / "_static" / "scorer.js")
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#17568c", "color-brand-content": "#17568c"},
    "dark_css_variables": {"color-brand-primary": "#7cb8ea", "color-brand-content": "#7cb8ea"},
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _compiled_for(app: Any, page: str, source: list[str]) -> None:
    """The compiler's setting for the process that runs a page.

    Most pages compile much and compute little: less optimisation is less time. Those of the gallery train, and need it.
    """
    os.environ["XLA_FLAGS"] = "" if page.startswith("gallery/") else "--xla_backend_optimization_level=1"


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _compiled_for)
