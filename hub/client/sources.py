"""Where an adapter comes from: a registry's version, or a PEFT folder on this disk."""

from __future__ import annotations

import os
from pathlib import Path

from hub.errors import InvalidRef
from hub.refs import AdapterRef

Source = AdapterRef | Path
RefLike = str | os.PathLike[str] | AdapterRef
"""What users write where a source is meant."""


def parse_source(text: RefLike) -> Source:
    """Return the ref or the folder that `text` names.

    A `Path`, and a text that starts like a path (`./`, `../`, `/`, `~`, `C:\\`) or ends in a slash, is a folder.
    Any other text is a ref; one that can't be is still a folder if there is one of that name.
    Raises InvalidRef.
    """
    if isinstance(text, AdapterRef):
        return text
    if isinstance(text, os.PathLike):
        return Path(text).expanduser()
    if _looks_like_path(text):
        return Path(text).expanduser()
    try:
        return AdapterRef.parse(text)
    except InvalidRef as error:
        if os.path.isdir(text):
            return Path(text)
        raise InvalidRef(f"{error.message} (A folder is written with ./ in front.)") from error


def _looks_like_path(text: str) -> bool:
    has_drive = len(text) > 2 and text[0].isalpha() and text[1] == ":" and text[2] in "\\/"
    starts = ("./", "../", "/", "~", ".\\", "..\\", "\\\\")
    return has_drive or text in {".", ".."} or text.startswith(starts) or text.endswith("/")
