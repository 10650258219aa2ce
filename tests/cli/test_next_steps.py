"""Every command that a message, a page or a help text names exists, with the options that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hub.cli import COMMANDS, load_command, lorahub

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("hub", "cli", "web")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".html"}
]
# A command as text names it: words and options, up to an argument in capitals, a placeholder or other signs.  It stands
# behind a colon, a backquote, `run` or a line's indent; elsewhere a sentence speaks of lorahub.
_VERBS = frozenset({"can", "does", "holds", "is", "keeps", "moves"})
"""A sentence that begins with lorahub goes on like this."""
_NAMED = re.compile(r"(?:: |`|\b[Rr]un |\n +|<code>|\$ |^)lorahub((?: +(?:--?[a-z][a-z-]*|[a-z][a-z-]+))+)")


def texts(path: Path) -> Iterator[str]:
    """Yield the texts that users may read: strings, the fixed parts of f-strings, templates."""
    if path.suffix != ".py":
        yield path.read_text("utf-8")
        return
    tree = ast.parse(path.read_text("utf-8"))
    # A docstring is help in cli/, where click prints it; elsewhere developers alone read it.
    docstrings = set() if path.is_relative_to(ROOT / "cli") else {id(node) for node in docstring_nodes(tree)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def docstring_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def named_commands() -> list[tuple[str, str]]:
    return sorted(
        {
            (match.group(1).strip(), str(path.relative_to(ROOT)))
            for path in SOURCES
            for text in texts(path)
            for match in _NAMED.finditer(text)
            if match.group(1).split()[0] not in _VERBS
        }
    )


def problem_of(words: list[str]) -> str | None:
    """Return what does not exist of a command's words, or None."""
    if words[0].startswith("-"):
        return None if words[0] in {"--help", "--version"} else f"lorahub has no {words[0]}"
    if words[0] not in COMMANDS:
        return f"there is no command {words[0]!r}"
    command: click.Command = load_command(words[0])
    for word in words[1:]:
        if word.startswith("-"):
            known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word not in known | {"--help", "-h"}:
                return f"{command.name} has no {word}"
        elif isinstance(command, click.Group):
            inner = command.commands.get(word)
            if inner is None:
                return f"{command.name} has no {word!r}"
            command = inner
        else:
            return None  # an argument, or the sentence goes on
    return None


@pytest.mark.parametrize(("command", "where"), named_commands())
def test_a_command_that_a_text_names_exists(command: str, where: str) -> None:
    assert problem_of(command.split()) is None, f"{where} names `lorahub {command}`"


def test_what_does_not_exist_is_found() -> None:
    assert problem_of(["yank", "--undo"])
    assert problem_of(["alias", "--undo"])
    assert problem_of(["cache", "nothing"])
    assert len(named_commands()) > 60
    assert lorahub.list_commands(click.Context(lorahub))
