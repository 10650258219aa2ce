"""Imports point one way: core <- client <- runtime <- training, core <- registry <- web, and cli on top of all."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT_MODULES = {
    "accounts",
    "api",
    "bases",
    "cache",
    "cache_care",
    "checking",
    "client",
    "client_admin",
    "connection",
    "doctor",
    "http_clients",
    "multipart",
    "offline",
    "records",
    "sources",
    "sync",
    "transfer",
}
"""The modules of hub/ that talk to a registry or keep what came from one; the others are core."""

HEAVY = {"torch", "transformers", "bitsandbytes", "peft", "sqlalchemy", "alembic", "flask", "click", "boto3", "numpy"}

ALLOWED = {
    "core": {"core"},
    "client": {"core", "client"},
    "runtime": {"core", "client", "runtime"},
    "training": {"core", "client", "runtime", "training"},
    "integrations": {"core", "client", "runtime", "integrations"},
    "registry": {"core", "registry", "migrations"},
    "migrations": {"core", "registry", "migrations"},
    "web": {"core", "registry", "web"},
    "cli": {"core", "client", "runtime", "training", "integrations", "registry", "migrations", "web", "cli"},
}
"""Each room, and the rooms that it may import from."""

FORBIDDEN_LIBRARIES = {
    "core": HEAVY | {"httpx2", "rich"},
    "client": HEAVY,
    "runtime": {"peft", "sqlalchemy", "alembic", "flask", "click"},
    "registry": {"torch", "transformers", "peft", "flask", "click"},
    "web": {"torch", "transformers", "peft", "click"},
}
"""What a room must not import when it is itself imported."""


def room_of(module: str) -> str:
    """Return the room that `hub.x.y` lives in."""
    parts = module.split(".")
    if len(parts) > 1 and parts[1] in ALLOWED:
        return parts[1]
    return "client" if len(parts) > 1 and parts[1] in CLIENT_MODULES else "core"


def source_files() -> Iterator[tuple[str, Path]]:
    """Yield (module name, path) of every source file that is installed."""
    for folder, package in (("hub", "hub"), ("cli", "hub.cli"), ("web", "hub.web"), ("migrations", "hub.migrations")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *inner])
            yield name.removesuffix(".__init__"), path


def imports_of(module: str, path: Path, *, at_import_time: bool) -> Iterator[str]:
    """Yield the full names of the modules that a file imports, relative ones resolved."""
    tree = ast.parse(path.read_text("utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _executed(tree) if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = package.split(".")
                above = ".".join(parts[: len(parts) - node.level + 1])
                origin = f"{above}.{origin}".rstrip(".")
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that run when the module is imported: not functions, not typing-only blocks."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


FILES = list(source_files())


@pytest.mark.parametrize(("module", "path"), FILES, ids=[name for name, _ in FILES])
def test_a_module_imports_only_from_the_rooms_below_it(module: str, path: Path) -> None:
    if module == "hub":  # the public names, each imported from its home when it is first used
        return
    room = room_of(module)
    imported = {name for name in imports_of(module, path, at_import_time=False) if name.split(".")[0] == "hub"}
    wrong = sorted(name for name in imported if name != "hub" and room_of(name) not in ALLOWED[room])
    assert not wrong, f"{module} is {room} and may import from {sorted(ALLOWED[room])}; it imports {wrong}"


@pytest.mark.parametrize(("module", "path"), FILES, ids=[name for name, _ in FILES])
def test_a_module_leaves_heavy_libraries_to_their_rooms(module: str, path: Path) -> None:
    banned = FORBIDDEN_LIBRARIES.get(room_of(module), set())
    used = {name.split(".")[0] for name in imports_of(module, path, at_import_time=True)}
    assert not used & banned, f"{module} is {room_of(module)} and imports {sorted(used & banned)}"


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
