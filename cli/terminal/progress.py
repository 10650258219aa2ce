"""Progress on stderr: a bar with rate and time left on a terminal, nothing at all elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hub.client.progress import Observer

from .output import has_color, is_terminal, note, warn

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class CliObserver(Observer):
    """Shows notes and warnings as lines, and stages as bars where somebody watches."""

    def __init__(self, notes: bool = True) -> None:
        self._notes = notes
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, stage: str, total_bytes: int) -> None:
        if not total_bytes or not is_terminal(sys.stderr):
            return
        self._bar = _make_bar()
        self._bar.start()
        self._task = self._bar.add_task(stage, total=total_bytes)

    def advance(self, count: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def note(self, text: str) -> None:
        if self._notes:
            note(text)

    def warn(self, text: str) -> None:
        warn(text)


def _make_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, no_color=not has_color(sys.stderr)),
        transient=True,
    )


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is waited for, and for how long already."""
    if not is_terminal(sys.stderr):
        yield
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, no_color=not has_color(sys.stderr))
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(escape(what))
        yield
