"""What the demo prints: numbered steps, commands as they are typed, tables, and how far something is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

WIDTH = 110


class DemoConsole:
    """Prints to stdout.  On a terminal, progress rewrites its line; elsewhere it takes a line for every quarter."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._last_quarter = -1

    @property
    def is_terminal(self) -> bool:
        return self._is_terminal

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._began

    def step(self, number: int, title: str) -> None:
        """Begin a step; says when, in seconds since the start."""
        mark = f"[{self.elapsed_seconds:.0f} s]"
        heading = f"{number}. {title}"
        self.line(f"\n{heading} {mark:>{WIDTH - len(heading) - 1}}\n{'─' * WIDTH}")

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def lines(self, texts: Sequence[str], indent: str = "") -> None:
        for text in texts:
            self.line(indent + text)

    def command(self, text: str) -> None:
        """Show a command as it is typed."""
        self.line(f"\n$ {self._bold(text)}")

    def code(self, text: str) -> None:
        """Show Python as it is run."""
        self.line(f"\n>>> {self._bold(text)}")

    def progress(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` are done."""
        if self._is_terminal:
            end = "\n" if done >= total else ""
            print(f"\r\x1b[2K  {_bar(done, total)} {text}", end=end, flush=True)
            return
        quarter = 4 * done // max(total, 1)
        if done and quarter != self._last_quarter:
            self.line(f"  {_bar(done, total)} {text}")
            self._last_quarter = -1 if done >= total else quarter

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> None:
        """Print a table; a text longer than its column goes on in the next line."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_lines=False)
        for index, name in enumerate(header):
            table.add_column(name, overflow="fold", width=widths[index] if widths else None)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        has_color = self._is_terminal and not os.environ.get("NO_COLOR")
        Console(width=WIDTH, highlight=False, no_color=not has_color, soft_wrap=False).print(table)

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._is_terminal and not os.environ.get("NO_COLOR") else text


def duration_text(seconds: float) -> str:
    """A duration as people write it: `2.4 s`, `31 ms`, `4 µs`."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


def _bar(done: int, total: int, width: int = 20) -> str:
    filled = width * done // max(total, 1)
    return f"{'█' * filled}{'░' * (width - filled)} {done}/{total}"
