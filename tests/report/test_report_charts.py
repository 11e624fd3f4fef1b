"""Charts: drawn to scale, nothing left in them but shapes, and an answer where there are no numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from xml.etree import ElementTree as ET

import pytest
from report_scene import NOW, scene_fleet

from controller.reconcile.outlook import Forecast, ForecastRow
from controller.report.charts import inventory, work
from controller.report.charts.all import charts_of
from controller.report.charts.chart import Series
from controller.report.charts.drawing import bars, columns

HARMLESS = {"svg", "g", "rect", "path", "text", "title", "line"}


def drawn(svg: str) -> list[ET.Element]:
    return [shape for shape in ET.fromstring(svg).iter("rect") if shape.find("title") is not None]


@pytest.fixture(scope="module")
def fleet():
    return scene_fleet()


class TestDrawing:
    def test_heights_are_to_scale_and_stacked(self):
        first, second = Series("done", "good", (1, 4)), Series("failed", "bad", (2, 0))
        done_1, done_2, failed_1, _ = drawn(columns(("Mon", "Tue"), (first, second)))
        heights = [float(shape.get("height")) for shape in (done_1, done_2, failed_1)]
        assert heights[1] == pytest.approx(4 * heights[0], abs=0.5)
        assert heights[2] == pytest.approx(2 * heights[0], abs=0.5)
        assert float(failed_1.get("y")) + heights[2] == pytest.approx(float(done_1.get("y")), abs=0.5)

    def test_lying_bars_stand_in_the_order_given_and_keep_their_numbers(self):
        shapes = drawn(bars(("first", "second"), (Series("devices", "hue-0", (3, 9)),)))
        by_title = {shape.find("title").text: shape for shape in shapes}
        first, second = by_title["first: 3 devices"], by_title["second: 9 devices"]
        assert float(first.get("y")) < float(second.get("y"))
        assert float(second.get("width")) == pytest.approx(3 * float(first.get("width")), abs=0.5)

    @pytest.mark.parametrize("most", [0, 1, 3, 7, 12, 99, 1_000_000])
    def test_the_axis_has_whole_numbers_and_room_for_the_most(self, most):
        svg = ET.fromstring(columns(("one",), (Series("x", "good", (most,)),)))
        [axis] = [group for group in svg.iter("g") if (group.get("class") or "").startswith("axis y")]
        numbers = [int(text.text.replace(",", "")) for text in axis.iter("text")]
        assert numbers[0] == 0
        assert numbers[-1] >= most
        assert 2 <= len(numbers) <= 7

    def test_what_devices_say_is_text_in_a_drawing(self):
        hostile = "</text><script>alert(1)</script>"
        for svg in (
            columns((hostile,), (Series(hostile, "good", (1,)),)),
            bars((hostile,), (Series("x", "bad", (2,)),)),
        ):
            assert "<script" not in svg
            assert any(hostile in (title.text or "") for title in ET.fromstring(svg).iter("title"))

    def test_nothing_but_shapes_is_left(self, fleet):
        for chart in charts_of(fleet):
            for element in ET.fromstring(chart.svg).iter():
                assert element.tag in HARMLESS
                assert not {"id", "style", "onload", "href"} & set(element.attrib)


class TestInventory:
    def test_ages_stand_against_the_policy_that_governs_each_device(self, fleet):
        chart = inventory.ages(fleet)
        assert chart.columns == ("Age in days", "within maxAge", "no maxAge", "above maxAge")
        cells = {row[0]: row[1:] for row in chart.rows}
        assert cells["180–210"] == ("3", "0", "17"), "the docks may be older than the lines"
        assert cells["330+"][1] == "6", "the benches have no maximum age"
        total = sum(int(cell) for row in chart.rows for cell in row[1:])
        assert total == 302
        assert chart.notes == (
            "line-a-gateways: 13 devices above 180d",
            "line-b-gateways: 1 device above 180d",
            "paint-shop: 4 devices above 180d",
        )

    def test_kinds_that_no_policy_demands_are_told_apart(self, fleet):
        chart = inventory.key_types(fleet)
        assert [row[0] for row in chart.rows] == ["ECDSA-P256", "RSA-2048", "RSA-4096", "unparseable"]
        assert [row[3] for row in chart.rows] == ["yes", "no", "no", "no"]

    def test_many_kinds_are_added_up_in_the_picture_and_listed_in_the_table(self, fleet):
        counts = {f"ca-{number:02}": 100 - number for number in range(20)}
        chart = inventory.authorities(replace(fleet, inventory=replace(fleet.inventory, authorities=counts)))
        assert len(chart.rows) == 20
        assert f"others {100 * sum(range(81, 93)) / sum(range(81, 101)):.1f} %" in chart.description


class TestWork:
    def test_rotations_are_counted_by_the_day_they_ended(self, fleet):
        chart = work.rotations(fleet)
        assert chart.rows[-1] == ("2026-11-23", "7", "0")
        assert chart.rows[-5] == ("2026-11-19", "9", "5")
        assert len(chart.rows) == 14

    def test_the_forecast_says_peak_mean_and_capacity_and_where_it_is_exceeded(self, fleet):
        day = NOW.date()
        rows = (ForecastRow(day, "line-a", "plant-ca", 30, 20), ForecastRow(day + timedelta(8), "line-a", "ca", 5, 20))
        found = Forecast(day, 14, rows, 35, 30, day, 2.5, 30, 0)
        chart = work.forecast(replace(fleet, forecast=found))
        assert chart.description == (
            "35 rotations in 14 days, by week and authority: mean 2.5 a day, peak 30 on 2026-11-23; "
            "rates and windows allow 20 on that day."
        )
        assert chart.notes == ("2026-11-23: line-a asks 30, its rates and windows allow 20",)
        assert chart.columns[-2:] == ("on its busiest day", "allowed that day")
        assert chart.rows == (("2026-11-23", "30", "0", "30", "20"), ("2026-11-30", "0", "5", "5", "20"))

    def test_many_days_over_capacity_are_counted(self, fleet):
        first = date(2026, 11, 23)
        rows = tuple(ForecastRow(first + timedelta(n), "p", "ca", 9, 1) for n in range(6))
        found = Forecast(first, 7, rows, 54, 9, first, 7.7, 9, 0)
        assert work.forecast(replace(fleet, forecast=found)).notes[-1] == "and 3 more days over capacity"

    def test_the_trend_ends_with_this_report(self, fleet):
        chart = work.trend(fleet)
        assert len(chart.rows) == 30
        assert chart.rows[-1][:3] == ("2026-11-23 12:00Z", "87.5 %", "2")
        first = work.trend(replace(fleet, trend=fleet.trend[-1:]))
        assert first.empty == "this is the first report that is kept; the next ones show where the fleet goes"


def test_where_there_are_no_numbers_the_page_says_why(make):
    empty = make.fleet([])
    told = {chart.key: chart.empty for chart in charts_of(empty)}
    assert all(told.values())
    assert "--history" in told["trend"]
    assert "without a forecast" in told["forecast"]
    quiet = replace(empty, forecast=Forecast(NOW.date(), 30, (), 0, 0, None, 0.0, 0, 0))
    assert work.forecast(quiet).empty == "no rotation falls due in 30 days"
