"""What training wrote down beside an adapter: `lorahub.json`, in the adapter's own folder.

    {"schema": 1,
     "base": {"id", "revision", "shapes", "weights", "sketch", "config"},    the identity of the base, as in a manifest
     "trained_from": ["task/qa@v1"],                               versions that training went on from
     "training": {"steps": 30, …}}                                 how; for people to read

PEFT ignores the file and every tool copies it, so the base's fingerprint reaches the registry however the folder
travels: where nobody names the base, a manifest takes its identity from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.errors import InvalidAdapter, InvalidManifest, InvalidRef
from hub.formats.strict_json import StrictJsonError, loads
from hub.manifest import BaseIdentity
from hub.refs import AdapterRef

PROVENANCE_FILE = "lorahub.json"
SCHEMA = 1
MAX_PROVENANCE_BYTES = 256 * 1024

_MAX_VALUES = 2_000
_MAX_TEXT = 65_536


@dataclass(frozen=True, slots=True)
class Provenance:
    """The base that an adapter was trained on, the versions it was trained from, and how it was trained."""

    base: BaseIdentity
    trained_from: tuple[AdapterRef, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Provenance | None:
        """Return what the folder's `lorahub.json` says, None if there is none.  Raises InvalidAdapter."""
        path = folder / PROVENANCE_FILE
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return cls.parse(file.read(MAX_PROVENANCE_BYTES + 1))

    @classmethod
    def parse(cls, data: bytes) -> Provenance:
        """Raises InvalidAdapter, which says what is wrong."""
        try:
            return cls.from_json(loads(data, max_bytes=MAX_PROVENANCE_BYTES, max_values=_MAX_VALUES))
        except (StrictJsonError, InvalidManifest, InvalidRef) as error:
            raise InvalidAdapter(
                f"{PROVENANCE_FILE} is not what training writes: {error}. Remove the file, or train again."
            ) from error

    @classmethod
    def from_json(cls, payload: object) -> Provenance:
        """Raises InvalidManifest or InvalidRef, which say what is wrong."""
        if not isinstance(payload, dict) or payload.get("schema") != SCHEMA:
            raise InvalidManifest(f"it is no object with schema {SCHEMA}")
        sources, training = payload.get("trained_from", []), payload.get("training", {})
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise InvalidManifest("trained_from is no list of refs")
        if not isinstance(training, dict):
            raise InvalidManifest("training is no object")
        return cls(_parse_base(payload.get("base")), tuple(AdapterRef.parse(source) for source in sources), training)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "base": self.base.to_json(),
            "trained_from": [str(ref) for ref in self.trained_from],
            "training": dict(self.training),
        }

    def write(self, folder: Path) -> None:
        """Write `lorahub.json` into `folder`."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False)
        (folder / PROVENANCE_FILE).write_text(text + "\n", "utf-8")


def _parse_base(item: object) -> BaseIdentity:
    names = set(BaseIdentity.__dataclass_fields__)
    if not isinstance(item, dict) or not set(item) <= names:
        raise InvalidManifest(f"base is no object of {', '.join(sorted(names))}")
    if not all(isinstance(value, str) and len(value) <= _MAX_TEXT for value in item.values()):
        raise InvalidManifest("a field of base is not a text")
    return BaseIdentity(**item)
