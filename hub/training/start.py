"""Where a further round of training starts: a version of the registry, or a PEFT folder on this disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hub.api import client_settings
from hub.refs import AdapterRef
from hub.sources import parse_source
from hub.sync import fetch, resolve
from hub.training.base import TrainingBase


@dataclass(frozen=True, slots=True)
class Start:
    """ref: the version, fixed (`@v1`, never `@latest`), or None for a folder."""

    folder: Path
    ref: AdapterRef | None


def find_start(text: str | os.PathLike[str] | AdapterRef, base: TrainingBase, registry: str | None) -> Start:
    """Fetch what training goes on from, and check it against the base: PEFT drops what doesn't fit without a word.

    Raises Incompatible, and what `hub.pull` raises.
    """
    source = parse_source(text)
    if isinstance(source, Path):
        start = Start(source, None)
    else:
        settings = client_settings(registry)
        info = resolve(source, settings)
        start = Start(fetch(info, settings), info.ref)
    from hub.checking import check_folder

    report = check_folder(start.folder, base.spec)
    report.raise_if_bad()
    return start
