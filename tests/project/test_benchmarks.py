"""A table of docs/benchmarks.md is replaced between its marks, and a page with a mark missing is left as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.document import DOCUMENT, put
from benchmarks.turns import Row, speed

PAGE = "before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n"


def test_a_table_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    put("x", "new", page)
    assert page.read_text() == PAGE.replace("old", "new")


@pytest.mark.parametrize("mark", ["<!-- x: begin -->", "<!-- x: end -->"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_mark_that_is_missing_or_doubled_is_an_error_and_changes_nothing(
    tmp_path: Path, mark: str, times: int
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(mark, mark * times))
    before = page.read_text()
    with pytest.raises(ValueError, match="needs"):
        put("x", "new", page)
    assert page.read_text() == before


def test_every_table_of_the_page_has_both_marks() -> None:
    text = DOCUMENT.read_text("utf-8")
    begins, ends = (re.findall(rf"<!-- ([\w.-]+): {mark} -->", text) for mark in ("begin", "end"))
    assert begins == ends != []
    assert len(set(begins)) == len(begins)


def test_wanted_is_said_in_the_units_of_the_result() -> None:
    row = speed("decode", {"PEFT": [4.0, 6.0, 5.0], "ours": [2.0, 2.0, 9.0]}, "PEFT", "ours", 2)
    assert (row.result, row.wanted, row.ok) == ("2.5x PEFT", "2x", True)
    assert row.line == "| decode | 2.5x PEFT | 2x (met) | PEFT 5,000.0 ms, ours 2,000.0 ms |"
    assert "**not met**" in Row("memory", "1.2x", {}, "at most 1.05x", ok=False).line
