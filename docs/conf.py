"""Settings of the documentation site: ``make docs`` builds it, offline; a dead link or anchor fails it.

Sphinx with MyST reads the same Markdown that the repository shows. See decision 143.
"""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

project = "certfleet"
extensions = ["myst_parser"]
nitpicky = True
html_theme = "furo"
html_title = "certfleet"
html_show_copyright = False
html_static_path = ["../build/mermaid.min.js", "site.css", "site.js"]
html_js_files = ["mermaid.min.js", "site.js"]
html_css_files = ["site.css"]
myst_heading_anchors = 4  # as the repository's host makes them
myst_fence_as_directive = ["mermaid"]


class Mermaid(Directive):
    """A diagram as text, which mermaid.min.js draws in the reader's browser."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The text, for HTML alone."""
        text = escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{text}</pre>', format="html")]


def list_decisions(_app: Any, page: str, source: list[str]) -> None:
    """Append the list of all decisions to their page."""
    if page == "decisions/README":
        source[0] += "\n```{toctree}\n:glob:\n:reversed:\n:maxdepth: 1\n:titlesonly:\n\n0*\n```\n"


def setup(app: Any) -> None:
    """Add to Sphinx what Markdown lacks."""
    app.add_directive("mermaid", Mermaid)
    app.connect("source-read", list_decisions)
