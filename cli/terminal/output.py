"""What commands print: data on stdout as a table, as tab-separated lines, as ids, or as JSON.

A terminal gets a table; a pipe gets lines that `cut` and `awk` can take apart; `--json` gets what the library returned;
`--quiet` gets one id per line.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Output:
    """How this run prints.  Made by the `@printing` decorator."""

    as_json: bool = False
    quiet: bool = False

    def json(self, value: object) -> None:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))

    def line(self, text: str) -> None:
        click.echo(text)

    def lines(self, texts: Sequence[str]) -> None:
        for text in texts:
            click.echo(text)

    def rows(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; on a terminal it is drawn, else its header and rows are tab-separated."""
        texts = [[cell(value) for value in row] for row in rows]
        if is_terminal(sys.stdout):
            _draw(header, texts)
            return
        for row in [[name.upper() for name in header], *texts]:
            click.echo("\t".join(row))

    def fields(self, values: Mapping[str, object]) -> None:
        """Print names and values, one pair a line; empty values are left out."""
        shown = {name: cell(value) for name, value in values.items() if value not in (None, "", (), [])}
        width = max((len(name) for name in shown), default=0)
        for name, text in shown.items():
            click.echo(f"{name + ':':<{width + 1}} {text}" if is_terminal(sys.stdout) else f"{name}\t{text}")


def printing(function: F) -> F:
    """Give a command `--json` and `--quiet`, and an `Output` as its argument `out`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("-q", "--quiet", is_flag=True, help="Print ids only, one per line.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        return function(*args, out=Output(as_json, quiet), **kwargs)

    return cast("F", wrapper)


def printing_json(function: F) -> F:
    """Give a command `--json` alone: it prints no ids."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        return function(*args, out=Output(as_json), **kwargs)

    return cast("F", wrapper)


def cell(value: object) -> str:
    """One value as text on one line, without control characters: a registry's text can't drive a terminal."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "".join(char if char.isprintable() else " " for char in str(value))


def date_text(moment: str) -> str:
    """The minute of an RFC 3339 time, in UTC."""
    return moment[:16].replace("T", " ")


def is_terminal(stream: IO[str]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_color(stream: IO[str]) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def paint_error(message: str) -> str:
    label = "error:"
    return f"{click.style(label, fg='red', bold=True) if has_color(sys.stderr) else label} {message}"


def warn(message: str) -> None:
    label = "warning:"
    shown = click.style(label, fg="yellow", bold=True) if has_color(sys.stderr) else label
    click.echo(f"{shown} {cell(message)}", err=True)


def note(message: str) -> None:
    click.echo(cell(message), err=True)


def _draw(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console(highlight=False, no_color=not has_color(sys.stdout)).print(table)
