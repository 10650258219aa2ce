"""The table client × command of docs/huggingface.md, written from the results of a test run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.hf.clients import ABSENT, COMMANDS, OK
from tests.hf.environments import all_versions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "huggingface.md"
START, END = "<!-- table: written by `make test-engines` -->", "<!-- end of table -->"
_MARKS = {OK: "✓", ABSENT: "–"}

Results = Mapping[str, Mapping[str, str]]


def render(results: Results) -> str:
    """Return the table; a command that failed is shown as failed."""
    clients = all_versions()
    lines = [
        "| command | " + " | ".join(clients) + " |",
        "|---|" + ":-:|" * len(clients),
    ]
    for title in COMMANDS:
        marks = (_MARKS.get(results[client][title], "fails") for client in clients)
        lines.append(f"| {title.replace('|', chr(92) + '|')} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def write_table(results: Results) -> None:
    """Replace the table in the page."""
    text = page_with_table()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{render(results)}\n\n{END}{after}", "utf-8")


def page_with_table() -> str:
    """Return the page.  Fails if the marks that the table stands between are gone."""
    text = PAGE.read_text("utf-8")
    assert START in text, f"{PAGE} has lost the mark {START}"
    assert END in text, f"{PAGE} has lost the mark {END}"
    return text
