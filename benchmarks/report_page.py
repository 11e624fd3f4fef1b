"""The HTML report of a large fleet: how long it takes to write and to open, and how long a filter takes in it.

Every device has something to say, each with a due date of its own: more than a real fleet would show. Each size is
measured without sites and with 300 of them; choosing one is a filter, too.

    python benchmarks/report_page.py [SIZE ...]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))

from report_browser import Browser
from report_scene import crowd

from controller.report.formats import TextStyle
from controller.report.html import render_drift
from controller.report.model import Report

SIZES = (1_000, 10_000, 100_000)
SITES = 300
WORDS = ("gateway-0005", "AgeExceeded", "plant days", "nothing like this")
FILTER = """(() => {
    document.getElementById('words').value = WORDS;
    const start = performance.now();
    document.getElementById('filter').requestSubmit();
    document.body.offsetHeight;  // laid out
    return performance.now() - start;
})()"""
CHOOSE = """(() => {
    const site = document.getElementById('site');
    if (!site) return 0;
    const start = performance.now();
    site.selectedIndex = 7;
    site.dispatchEvent(new Event('change'));
    document.body.offsetHeight;
    return performance.now() - start;
})()"""


def main() -> None:
    """Measure each size and print a row."""
    sizes = [int(text.replace("_", "")) for text in sys.argv[1:]] or SIZES
    print(f"{'rows':>9} {'sites':>6} {'MB':>6} {'write s':>8} {'open s':>8} {'slowest filter ms':>18}")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder) / "profile")
        for size, number in [(size, number) for size in sizes for number in (0, SITES)]:
            report, page = over_sites(crowd(size), number), Path(folder) / "page.html"
            start = time.perf_counter()
            page.write_text(render_drift(report, TextStyle()), encoding="utf-8")
            written = time.perf_counter()
            tab = browser.open(page)
            opened = time.perf_counter()
            slowest = max(tab.run(FILTER.replace("WORDS", json.dumps(words))) for words in WORDS)
            slowest = max(slowest, tab.run(CHOOSE))
            tab.close()
            megabytes = page.stat().st_size / 1e6
            what = f"{size:>9,} {number:>6} {megabytes:>6.1f} {written - start:>8.1f} {opened - written:>8.1f}"
            print(f"{what} {slowest:>18.0f}")
        browser.close()


def over_sites(report: Report, number: int) -> Report:
    """Return the report over so many sites; as it is if there are none."""
    if not number:
        return report
    [fleet] = report.fleets
    desired = replace(fleet.desired, fleet=replace(fleet.desired.fleet, site_attribute="plant"))
    sites = {found.device: f"plant-{n % number}" for n, found in enumerate(fleet.assessments)}
    return replace(report, fleets=(replace(fleet, desired=desired, sites=sites),))


if __name__ == "__main__":
    main()
