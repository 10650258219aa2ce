"""Where measurements go: tables of docs/benchmarks.md, each between marks that carry its name."""

from __future__ import annotations

from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def put(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace what stands between `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises ValueError, and writes nothing, unless each mark is there once and in that order: a missing end would
    otherwise swallow the rest of the page.
    """
    page = document.read_text("utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"{document} needs {begin} once, and {end} once behind it.")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    document.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", "utf-8")
