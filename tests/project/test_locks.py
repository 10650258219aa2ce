"""The lock files name every package that is installed here, each with a version and hashes."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HASHED = ["requirements.lock", "requirements-dev.lock", "deploy/server.lock"]


def entries(path: str) -> dict[str, tuple[str, int]]:
    """Return name -> (version, how many hashes) of a lock file."""
    text = re.sub(r"\\\n", " ", (ROOT / path).read_text("utf-8"))
    found = re.findall(r"^([\w.-]+)==(\S+)(.*)$", text, re.MULTILINE)
    return {name: (pinned, rest.count("--hash=sha256:")) for name, pinned, rest in found}


@pytest.mark.parametrize("path", HASHED)
def test_every_entry_has_hashes(path: str) -> None:
    found = entries(path)
    assert len(found) > 20
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


@pytest.mark.parametrize("path", [*HASHED, "deploy/torch.lock"])
def test_what_is_pinned_is_what_these_tests_run_on(path: str) -> None:
    pinned = {name: wanted for name, (wanted, _) in entries(path).items()}
    assert {name: version(name).split("+")[0] for name in pinned} == pinned


def test_the_two_of_make_setup_share_nothing_and_hold_the_server_s() -> None:
    run, dev, server = (set(entries(path)) for path in HASHED)
    assert not run & dev
    assert server <= run | dev
    assert "torch" not in run | dev | server
