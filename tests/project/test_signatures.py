"""No function takes more than seven parameters: what belongs together is a value."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_PARAMETERS = 7
SOURCES = sorted(path for folder in ("hub", "cli", "web") for path in (ROOT / folder).rglob("*.py"))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names that a caller gives; `*refs` and `**settings` are one each."""
    given = function.args
    named = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    named += [arg.arg for arg in (given.vararg, given.kwarg) if arg is not None]
    return named[1:] if named[:1] in (["self"], ["cls"]) else named


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_function_takes_more_than_seven_parameters() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name} takes {len(parameters(function))}"
        for path in SOURCES
        for function in functions(path.read_text("utf-8"))
        if len(parameters(function)) > MOST_PARAMETERS
    ]
    assert not long


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): ...", []),
        ("def f(a, /, b, *c, d=1, **e): ...", ["a", "b", "d", "c", "e"]),
        ("async def f(self, a): ...", ["a"]),
        ("class A:\n    @classmethod\n    def f(cls, a, *, b): ...", ["a", "b"]),
    ],
)
def test_parameters_are_counted_as_a_caller_gives_them(source: str, names: list[str]) -> None:
    assert [parameters(function) for function in functions(source)] == [names]
