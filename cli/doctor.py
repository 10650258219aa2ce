"""`lorahub doctor`: look at this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from .terminal.output import Output, printing_json

if TYPE_CHECKING:
    from hub.client.doctor import Check


@click.command()
@printing_json
def doctor(out: Output) -> int:
    """Check Python, torch, bitsandbytes and the 4-bit kernel, the registry, the token, the cache and the disk.

    It says what to do about what it finds.

    Exits 1 if something is broken; what is merely not installed is a warning.
    """
    from hub.client.doctor import ERROR, OK, diagnose
    from hub.settings import ClientSettings, ServerSettings, config_path

    settings, broken = ClientSettings.from_env(os.environ), False
    found = []
    for check in (*diagnose(settings, config_path(os.environ), ServerSettings.from_env()), *_kernel()):
        broken = broken or check.level == ERROR
        found.append(check)
        if not out.as_json:
            out.line(f"{check.level:<8} {check.name:<13} {check.found}")
            if check.level != OK and check.next_step:
                out.line(f"{'':<22} -> {check.next_step}")
    if out.as_json:
        out.json([check.to_json() for check in found])
    return 1 if broken else 0


def _kernel() -> Iterator[Check]:
    """Look at the kernel where the runtime is installed; it says nothing where that is not."""
    if all(find_spec(name) for name in ("torch", "transformers", "bitsandbytes")):
        from hub.runtime.kernel_check import check_kernel

        yield check_kernel()
