"""What is imported is declared in pyproject.toml, and what is declared is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OURS = {"hub", "__future__"}
ONLY_FOR_TYPES = {"_typeshed", "mypy_boto3_s3"}
USED_BY_OTHERS = {
    "psycopg": "SQLAlchemy's driver for PostgreSQL",
    "accelerate": "transformers places a model's layers with it",
    "pysqlite3": "imported by name, where the wheel exists",
}
"""Declared although no line of ours imports them, and why."""


def normalized(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;! ]", requirement)[0]).lower()


def declared() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    found = [*PROJECT["dependencies"], *(item for name, items in extras.items() if name != "dev" for item in items)]
    return {normalized(item) for item in found} - {normalized(PROJECT["name"])}


def imported() -> Iterator[str]:
    """Yield the top-level name of every module outside the standard library that the package imports."""
    for folder in ("hub", "cli", "web", "migrations"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                else:
                    continue
                yield from (name.split(".")[0] for name in names)


def test_imports_and_declarations_are_the_same_set() -> None:
    distributions = packages_distributions()
    modules = set(imported()) - set(sys.stdlib_module_names) - OURS - ONLY_FOR_TYPES
    used = {module: {normalized(name) for name in distributions.get(module, [module])} for module in modules}
    known = declared()
    assert {module for module, names in used.items() if not names & known} == set(), "imported and not declared"
    all_used = {name for names in used.values() for name in names} | set(USED_BY_OTHERS)
    assert known - all_used == set(), "declared and not imported"
