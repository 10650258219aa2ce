"""The documentation's site: every page is in its navigation, and every name that the Python page shows exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_the_navigation_names_every_page_and_no_other() -> None:
    named = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert named == {page.name for page in DOCS.glob("*.md")}


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)", (DOCS / "python.md").read_text("utf-8"), re.MULTILINE))
def test_the_python_page_shows_what_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    shown = getattr(import_module(module), attribute, None) or import_module(name)
    assert shown.__doc__
