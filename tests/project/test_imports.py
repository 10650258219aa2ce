"""Imports point one way, heavy libraries stay in their rooms, and only `hub` is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"hub": "hub", "cli": "hub.cli", "web": "hub.web", "migrations": "hub.migrations"}
HEAVY = {"torch", "transformers", "bitsandbytes", "peft", "sqlalchemy", "alembic", "flask", "click", "boto3", "numpy"}


def packages() -> dict[str, Path]:
    """Return the name and the `__init__.py` of every package in the tree."""
    return {
        ".".join([name, *path.parent.relative_to(ROOT / folder).parts]): path
        for folder, name in PARTS.items()
        for path in sorted((ROOT / folder).rglob("__init__.py"))
    }


def test_the_contracts_of_the_rooms_hold(tmp_path: Path) -> None:
    """The contracts are in pyproject.toml; the linter sees the tree as it is installed."""
    installed = tmp_path / "hub"
    installed.mkdir()
    for entry in (ROOT / "hub").iterdir():
        (installed / entry.name).symlink_to(entry)
    for folder in ("cli", "web", "migrations"):
        (installed / folder).symlink_to(ROOT / folder)
    command = [
        str(Path(sys.executable).parent / "lint-imports"),
        "--config",
        str(ROOT / "pyproject.toml"),
        "--no-cache",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 broken" in done.stdout


def test_every_package_is_in_the_distribution() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages())


@pytest.mark.parametrize(("name", "path"), packages().items())
def test_a_room_says_what_lives_there(name: str, path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert text, f"{name} has no docstring"


def test_only_hub_is_installed() -> None:
    """A user's own cli.py or web/ can't be shadowed by ours, nor shadow it."""
    code = "import importlib.util as u; print([n for n in ('cli', 'web', 'migrations', 'tests') if u.find_spec(n)])"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("statement", ["import hub", "import hub.cli"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys; print(' '.join(sorted(name.split('.')[0] for name in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split()) - ({"click"} if "cli" in statement else set())
    assert not loaded & (HEAVY | {"httpx2", "rich", "huggingface_hub", "requests"})
