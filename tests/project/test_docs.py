"""What the documents say is true: links lead somewhere, commands exist, settings and errors are all described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hub
from hub.errors import HubError, error_classes

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
REFERENCE = ROOT / "docs" / "reference.md"
SOURCES = [path for folder in ("hub", "cli", "web", "migrations") for path in (ROOT / folder).rglob("*.py")]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^\s*\$? ?lorahub (?!is ready:)([a-z][a-z-]*)", re.MULTILINE)
_FENCE = re.compile(r"```.*?```", re.DOTALL)


def without_fences(text: str) -> str:
    return _FENCE.sub("", text)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that a renderer gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_fences(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_local_link_leads_to_something(page: Path) -> None:
    broken = []
    for target in _LINK.findall(without_fences(page.read_text("utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors_of(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_command_that_is_mentioned_exists(page: Path) -> None:
    from hub.cli import lorahub

    known = set(lorahub.list_commands(None))  # type: ignore[arg-type]
    named = {verb for fence in _FENCE.findall(page.read_text("utf-8")) for verb in _COMMAND.findall(fence)}
    assert named <= known


def test_the_reference_lists_exactly_the_public_names() -> None:
    described = set(re.findall(r"^### `hub\.(\w+)", REFERENCE.read_text("utf-8"), re.MULTILINE))
    assert described == set(hub.__all__)


def test_every_public_name_can_be_imported() -> None:
    missing = [name for name in hub.__all__ if getattr(hub, name, None) is None]
    assert not missing


def test_the_reference_describes_every_error() -> None:
    text = REFERENCE.read_text("utf-8")
    rows = {
        (code, int(status), int(exit_code))
        for code, status, exit_code in re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    }
    tree = [cls for cls in error_classes() if cls.__module__ == HubError.__module__]
    assert rows == {(cls.code, cls.status, cls.exit_code) for cls in tree}


def test_the_reference_describes_every_setting_that_is_read() -> None:
    read = {
        name for path in SOURCES for name in re.findall(r"""["'](LORAHUB_[A-Z0-9_]+)["']""", path.read_text("utf-8"))
    }
    described = set(re.findall(r"^\| `(LORAHUB_[A-Z0-9_]+)`", REFERENCE.read_text("utf-8"), re.MULTILINE))
    assert described == read


def test_no_document_sends_people_to_somebody_elses_package() -> None:
    """`lorahub` on the package index is not ours: the distribution is called lorahub-registry."""
    wrong = re.compile(r"(pip|pipx|uv|uvx)[a-z ]* lorahub(?!-registry)\b")
    offenders = [page.name for page in PAGES if wrong.search(page.read_text("utf-8"))]
    assert not offenders
