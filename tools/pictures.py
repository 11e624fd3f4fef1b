"""Makes the pictures of the reports in docs/pictures anew: ``make pictures``.

They show the scene of the reports' tests, at a fixed moment, drawn by the real renderers: the page on a telephone and
on a desk, light and dark; the terminal at 80 and at 120 columns; the comment of a pull request.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "report")]

from report_browser import Browser  # noqa: E402 (found by the line above)
from report_scene import scene, scene_comment, scene_fleet  # noqa: E402

from controller.report import comment, html, text  # noqa: E402
from controller.report.formats import TextStyle  # noqa: E402

PLACE = ROOT / "docs" / "pictures"
PAGE = "<!doctype html><meta charset=utf-8><style>{style}</style>{body}"
TERMINAL = "body{margin:12px;width:max-content;background:#11171e}pre{font:14px/1.3 monospace;margin:0}"
COMMENT = (
    "body{font:14px/1.5 sans-serif;margin:16px;max-width:900px;background:#fff;color:#1f2328}summary{cursor:pointer}"
    "table{border-collapse:collapse;margin:8px 0}td,th{border:1px solid #d1d9e0;padding:4px 10px;text-align:left}"
    "code{background:#eff1f3;padding:0 4px}blockquote{margin:8px 0;padding:0 12px;border-left:4px solid #9a6700}"
)
TALL = 1800  # pixels of a page that are kept: the rest is more of the same


def main() -> int:
    """Draw them all."""
    PLACE.mkdir(exist_ok=True)
    report = scene(scene_fleet(hostile="spare-gateway-7"))
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder, "profile"))
        draw = _Drawing(browser, Path(folder, "page.html"))
        for scheme in ("light", "dark"):
            for width in (390, 1280):
                draw(f"page-{width}-{scheme}", html.render_drift(report, TextStyle()), width, scheme)
        for width in (80, 120):
            body = _terminal(text.render_drift(report, TextStyle(width, color=True)), width)
            draw(f"terminal-{width}", PAGE.format(style=TERMINAL, body=body), width * 9 + 24, "dark")
        body = MarkdownIt("commonmark").enable("table").render(comment.render(scene_comment(), TextStyle()))
        draw("comment", PAGE.format(style=COMMENT, body=body), 940, "light")
        browser.close()
    return 0


class _Drawing:
    def __init__(self, browser: Browser, page: Path) -> None:
        self._browser, self._page = browser, page

    def __call__(self, name: str, page: str, width: int, scheme: str) -> None:
        self._page.write_text(page, encoding="utf-8")
        tab = self._browser.open(self._page, width=width, features={"prefers-color-scheme": scheme})
        tall = min(TALL, int(tab.run("document.documentElement.scrollHeight")))
        (PLACE / f"{name}.webp").write_bytes(tab.picture(width, tall))
        tab.close()
        sys.stdout.write(f"docs/pictures/{name}.webp\n")


def _terminal(told: str, width: int) -> str:
    """Return what a terminal that wide shows, as HTML."""
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(told), style="#e6ebf0")
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


if __name__ == "__main__":
    sys.exit(main())
