"""A self-contained page: no network, nothing but its own style and script may act, light and dark, prints well.

The page carries the aggregates and the rows that matter; the full list of devices is the JSON report.
Everything that comes from a fleet or from git is text to the template, and is escaped; the content
security policy names the digest of the one style sheet and the one script.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from .formats import TextStyle
from .html_rows import rows_of
from .html_view import page_view
from .model import Report
from .words import instant, listed, percent


def render_drift(report: Report, _look: TextStyle) -> str:
    """Return the whole page."""
    style, script = part("style.css"), part("filter.js")
    page: str = template("page.html.jinja").render(
        page=page_view(report),
        rows=rows_of(report),
        created_at=report.created_at,
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        policy=content_security_policy(style, script),
    )
    return page


def content_security_policy(style: str, script: str | None = None) -> str:
    """Return the policy under which nothing is loaded, and only this style and, if given, this script count."""
    scripts = f"script-src '{_digest(script)}'; " if script is not None else ""
    return f"default-src 'none'; style-src '{_digest(style)}'; {scripts}base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def part(name: str) -> str:
    """Return the text of a file that pages are made of."""
    return files("controller.report").joinpath("html_page", name).read_text(encoding="utf-8")


@cache
def template(name: str) -> Template:
    """Return a page's template, which escapes whatever is put into it."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"instant": instant, "trusted": Markup}  # drawings and packed rows escape themselves
    environment.globals |= {"percent": percent, "listed": listed}
    return environment.from_string(part(name))
