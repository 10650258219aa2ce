"""Where a base came from: for its tokenizer, and for the original weights behind a 4-bit one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from hub.errors import BaseNotFound


class Origin:
    """source: a folder, a Hugging Face id, or None for a model that was made in memory."""

    def __init__(self, source: str | None) -> None:
        self.source = source

    @classmethod
    def of_model(cls, base: Any) -> Origin:
        """Return where a transformers model says that it was read from, if that is a folder here."""
        source = getattr(base, "name_or_path", None)
        return cls(source if source and Path(source).is_dir() else None)

    @cached_property
    def folder(self) -> Path | None:
        """The folder with the base's files, or None if it isn't on this disk."""
        if self.source is None:
            return None
        folder = Path(self.source).expanduser()
        return folder if folder.is_dir() else _snapshot(self.source)

    @property
    def tokenizer(self) -> Any:
        found = self.find_tokenizer()
        if found is None:
            raise BaseNotFound(f"{self.source or 'This base'} has no tokenizer. Use the one that it was trained with.")
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


def _snapshot(model_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model_id, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
