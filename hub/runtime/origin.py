"""Where a base came from: for its tokenizer, and for the original weights behind a 4-bit one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from hub.errors import BaseNotFound


class Origin:
    """folder: the base's files, or None for a model that was made in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of_model(cls, base: Any) -> Origin:
        """Return where a transformers model says that it was read from, if that is a folder here."""
        source = getattr(base, "name_or_path", None)
        return cls(Path(source) if source and Path(source).is_dir() else None)

    @property
    def tokenizer(self) -> Any:
        found = self.find_tokenizer()
        if found is None:
            raise BaseNotFound(f"{self.folder or 'This base'} has no tokenizer. Use the one that it was trained with.")
        return found

    def find_tokenizer(self) -> Any | None:
        """Return the tokenizer, or None if the base has none."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any | None:
        from transformers import AutoTokenizer

        if self.folder is None or not any(self.folder.glob("tokenizer*")):
            return None
        return AutoTokenizer.from_pretrained(self.folder)
