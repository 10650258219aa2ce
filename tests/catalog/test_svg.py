"""Charts: what is drawn is what the numbers say, as SVG that a strict policy shows."""

from __future__ import annotations

from datetime import date
from xml.etree import ElementTree

import pytest

from hub.web.catalog.svg import HEAT_STEPS, Heat, badge, bars, heat_map, heat_step, meter

SVG = "{http://www.w3.org/2000/svg}"


def parse(text: str) -> ElementTree.Element:
    """Read it as XML; inline SVG has no namespace of its own."""
    return ElementTree.fromstring(str(text))


def test_shades_divide_the_scale_into_ninths() -> None:
    assert heat_step(0.0, 9.0) == 0
    assert [heat_step(value + 0.5, 9.0) for value in range(9)] == list(range(1, HEAT_STEPS))
    assert heat_step(9.0, 9.0) == HEAT_STEPS - 1
    assert heat_step(1.0, 0.0) == 0
    assert heat_step(float("nan"), 1.0) == 0


def test_heat_map_has_one_cell_per_place_and_leaves_missing_ones_blank() -> None:
    cells = {("q", "0"): Heat(1.0, "q of 0"), ("q", "1"): Heat(0.5, "q of 1"), ("v", "1"): Heat(0.0, "v of 1")}
    root = parse(heat_map(["q", "v"], ["0", "1"], cells, title="Two by two"))
    assert [rect.get("class") for rect in root.iter("rect")] == ["heat-9", "heat-5", "heat-none", "heat-0"]
    assert [title.text for title in root.iter("title")] == ["q of 0", "q of 1", "v of 1"]
    assert root.get("aria-label") == "Two by two"


@pytest.mark.parametrize("columns", [1, 30, 80, 200])
def test_heat_map_never_shrinks_a_cell_below_what_a_pointer_hits(columns: int) -> None:
    names = [str(index) for index in range(columns)]
    root = parse(heat_map(["q"], names, {("q", name): Heat(1.0, name) for name in names}, title="t"))
    rects = list(root.iter("rect"))
    assert len(rects) == columns
    assert 12 <= int(rects[0].get("width", "0")) <= 32


def test_bars_are_proportional_to_their_counts() -> None:
    points = [(date(2026, 3, 1), 0), (date(2026, 3, 2), 10), (date(2026, 3, 3), 5)]
    root = parse(bars(points, title="Downloads"))
    heights = [float(rect.get("height", "0")) for rect in root.iter("rect")]
    assert heights[0] == 0
    assert heights[1] == pytest.approx(2 * heights[2], abs=0.02)
    assert "peak 10 a day" in [text.text for text in root.iter("text")]
    assert [title.text for title in root.iter("title")][1] == "2026-03-02: 10 downloads"


def test_bars_without_a_download_or_a_day_are_still_a_chart() -> None:
    assert "peak 0 a day" in bars([(date(2026, 3, 1), 0)], title="t")
    assert parse(bars([], title="t")).tag == "svg"


def test_meter_stays_within_its_frame() -> None:
    assert [rect.get("width") for rect in parse(meter(1.7, title="t")).iter("rect")] == ["96.0", "96.0"]
    assert [rect.get("width") for rect in parse(meter(-1, title="t")).iter("rect")] == ["96.0", "0.0"]


HOSTILE = '"><script>window.pwned=1</script>&'


def test_no_text_can_leave_its_place_in_a_drawing() -> None:
    drawings = [
        heat_map([HOSTILE], [HOSTILE], {(HOSTILE, HOSTILE): Heat(1.0, HOSTILE)}, title=HOSTILE),
        bars([(date(2026, 3, 1), 1)], title=HOSTILE, unit=HOSTILE),
        meter(0.5, title=HOSTILE),
        badge(HOSTILE, HOSTILE),
    ]
    for drawing in drawings:
        root = parse(drawing)
        assert not [element.tag for element in root.iter() if element.tag.endswith("script")]
        assert "style=" not in drawing
        assert root.get("aria-label", "").startswith('"><script>') or "&#34;&gt;" in drawing


def test_badge_says_label_and_value_and_fits_them() -> None:
    root = ElementTree.fromstring(badge("lorahub task/qa", "v12"))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == ["lorahub task/qa", "v12"]
    short = ElementTree.fromstring(badge("a", "b"))
    assert int(root.get("width", "0")) > int(short.get("width", "0"))
