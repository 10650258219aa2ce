"""The manifest: the canonical description of one version, whose sha256 is the version's digest.

    {"schema": 1,
     "files":   [{"path", "size", "sha256"}, …]            sorted by path
     "config":  {…}                                        adapter_config.json, parsed
     "tensors": [{"name", "dtype", "shape"}, …]            of adapter_model.safetensors, sorted by name
     "base":    {"id", "revision", "shapes", "weights", "sketch", "config"}}

Canonical means RFC 8785: sorted keys, no white space, shortest numbers.  Client and registry meet here: the client
builds a manifest from a folder, the registry builds it again from storage, and both must come to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from unicodedata import normalize

from hub.errors import InvalidManifest, UnsafeFile
from hub.formats import strict_json
from hub.formats.readable import SHA256_HEX

SCHEMA = 1
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MAX_FILES = 1_000
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_MANIFEST_VALUES = 800_000
"""Enough for 50,000 tensors, and few enough to be read in little memory."""

MAX_PATH_BYTES = 200

_DEVICE_NAMES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """One file of a version.  `size` is in bytes, `sha256` is 64 lower-case hex digits."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, order=True)
class TensorEntry:
    """One tensor of the adapter's weights.  `dtype` is safetensors' name for it, e.g. `F32`, `BF16`."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """What is known of the base that an adapter was trained for.  Every field may be unknown.

    id: what adapter_config.json calls it.  revision: its commit there.
    shapes: fingerprint of tensor names and shapes.  weights: fingerprint of sampled weights.
    sketch: base64 of the sampled blocks, which also recognise a cast or 4-bit copy.  See `hub.base.spec`.
    config: the numbers of its config.json that change what the weights compute.  See `hub.base.numbers`.
    """

    id: str | None = None
    revision: str | None = None
    shapes: str | None = None
    weights: str | None = None
    sketch: str | None = None
    config: str | None = None

    def to_json(self) -> dict[str, str]:
        pairs = {
            "id": self.id,
            "revision": self.revision,
            "shapes": self.shapes,
            "weights": self.weights,
            "sketch": self.sketch,
            "config": self.config,
        }
        return {key: value for key, value in pairs.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version's content.  Equal manifests have equal canonical bytes, and so equal digests."""

    files: tuple[FileEntry, ...]
    config: Mapping[str, Any]
    tensors: tuple[TensorEntry, ...]
    base: BaseIdentity = field(default_factory=BaseIdentity)

    @property
    def digest(self) -> str:
        """sha256 of the canonical bytes, 64 hex digits."""
        return hashlib.sha256(self.canonical_bytes()).hexdigest()

    @property
    def commit(self) -> str:
        """The digest's first 40 hex digits: the commit id on the Hugging Face wire."""
        return self.digest[:40]

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def file(self, path: str) -> FileEntry | None:
        """Return the entry of `path`, or None."""
        return next((entry for entry in self.files if entry.path == path), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in sorted(self.files)],
            "config": dict(self.config),
            "tensors": [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in sorted(self.tensors)],
            "base": self.base.to_json(),
        }

    def canonical_bytes(self) -> bytes:
        """Return the RFC 8785 bytes of `to_json`.  The long lists, of plain values only, are written by C code."""
        payload = self.to_json()
        lists = {name: _encode_plain(payload.pop(name)) for name in ("files", "tensors")}
        texts = {name: _encode(value) for name, value in payload.items()} | lists
        return ("{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}").encode("utf-8")

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read what `canonical_bytes` wrote, or any JSON of that shape.  Raises InvalidManifest."""
        try:
            payload = strict_json.loads(
                data, max_bytes=MAX_MANIFEST_BYTES, max_values=MAX_MANIFEST_VALUES, check_numbers=False
            )
        except strict_json.StrictJsonError as error:
            raise InvalidManifest(f"The manifest {error}.") from error
        return cls.from_json(payload)

    @classmethod
    def from_json(cls, payload: object) -> Manifest:
        """Build a manifest from parsed JSON, checking every field.  Raises InvalidManifest or UnsafeFile."""
        if not isinstance(payload, dict) or payload.get("schema") != SCHEMA:
            raise InvalidManifest(f"A manifest is a JSON object with schema {SCHEMA}.")
        config = payload.get("config")
        if not isinstance(config, dict):
            raise InvalidManifest("The manifest's config is not an object.")
        manifest = cls(
            files=tuple(sorted(_parse_file(item) for item in _list(payload, "files"))),
            config=config,
            tensors=tuple(sorted(_parse_tensor(item) for item in _list(payload, "tensors"))),
            base=_parse_base(payload.get("base", {})),
        )
        check_paths([entry.path for entry in manifest.files])
        return manifest


def canonical_json(value: object) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.  Raises InvalidManifest for what JSON can't say exactly."""
    return _encode(value).encode("utf-8")


def _encode(value: object) -> str:
    if isinstance(value, dict):
        # RFC 8785 sorts by UTF-16 code units, which differs from code points above U+FFFF.
        keys = sorted(value, key=lambda key: str(key).encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_encode(str(key))}:{_encode(value[key])}" for key in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_encode(item) for item in value) + "]"
    if isinstance(value, str):
        return _encode_text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return _encode_whole_number(value)
    if isinstance(value, float):
        return _encode_float(value)
    raise InvalidManifest(f"A {type(value).__name__} has no place in a manifest.")


def _encode_plain(value: list[dict[str, Any]]) -> str:
    """Write values that hold no floats and whose keys are ASCII, where Python's own writer is canonical."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidManifest("A name in the manifest is not valid Unicode.") from error
    return text


def _encode_text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidManifest("A text in the manifest is not valid Unicode.") from error
    return json.dumps(value, ensure_ascii=False)


def _encode_whole_number(value: int) -> str:
    if abs(value) <= 2**53:
        return str(value)
    # A double that was written without a fraction is read back as a whole number: it must stay the same text.
    text = _encode_float(float(value)) if value.bit_length() < 1024 else ""
    if text != str(value):
        raise InvalidManifest(f"{str(value)[:40]} is a whole number that not every JSON reader keeps.")
    return text


def _encode_float(value: float) -> str:
    """Write a double as ECMAScript does: RFC 8785, section 3.2.2.3."""
    if not math.isfinite(value):
        raise InvalidManifest(f"{value} is not a JSON number.")
    if value == 0:
        return "0"
    mantissa, _, exponent_text = repr(value).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + (int(exponent_text) if exponent_text else 0)
    number = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(number)
    number = number.rstrip("0")
    count = len(number)
    if count <= point <= 21:
        return sign + number + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{number[:point]}.{number[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{number}"
    power = point - 1
    tail = f".{number[1:]}" if count > 1 else ""
    return f"{sign}{number[0]}{tail}e{'+' if power >= 0 else '-'}{abs(power)}"


def check_paths(paths: Sequence[str]) -> None:
    """Raise UnsafeFile unless every path is safe on every file system, and no two of them are twins."""
    if len(paths) > MAX_FILES:
        raise UnsafeFile(f"A version may have {MAX_FILES:,} files; this one has {len(paths):,}.")
    seen: dict[str, str] = {}
    for path in paths:
        check_path(path)
        folded = normalize("NFC", path).casefold()
        if folded in seen:
            raise UnsafeFile(f"{path!r} and {seen[folded]!r} are one file on some file systems. Rename one of them.")
        seen[folded] = path
    for path in paths:
        _check_parents(path, seen)


def check_path(path: str) -> None:
    """Raise UnsafeFile unless `path` is a plain relative path that is safe on every file system."""
    shown = repr(path[:80])
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UnsafeFile(f"The file name {shown} is not valid Unicode.") from error
    if not path or size > MAX_PATH_BYTES:
        raise UnsafeFile(f"The file name {shown} has {size} bytes; 1 to {MAX_PATH_BYTES} are allowed.")
    if _CONTROL.search(path) or "\\" in path or ":" in path or path.startswith("/"):
        raise UnsafeFile(f"The file name {shown} is not a plain relative path. Rename the file.")
    for part in path.split("/"):
        if part in {"", ".", ".."} or part.endswith((" ", ".")) or _DEVICE_NAMES.match(part):
            raise UnsafeFile(f"The file name {shown} is not safe on every system. Rename the file.")
        if part.casefold() == ".git":
            raise UnsafeFile(f"The file name {shown} is inside a .git folder, which is never stored.")


def _check_parents(path: str, seen: Mapping[str, str]) -> None:
    for parent in PurePosixPath(path).parents:
        if normalize("NFC", str(parent)).casefold() in seen:
            raise UnsafeFile(f"{path!r} lies in {str(parent)!r}, which is a file here. Rename one of them.")


def _list(payload: Mapping[str, Any], key: str) -> list[Any]:
    value = payload.get(key)
    if not isinstance(value, list):
        raise InvalidManifest(f"The manifest's {key} is not a list.")
    return value


def _parse_file(item: object) -> FileEntry:
    if not isinstance(item, dict) or set(item) != {"path", "size", "sha256"}:
        raise InvalidManifest("Every file of a manifest has a path, a size and a sha256, and nothing else.")
    path, size, sha256 = item["path"], item["size"], item["sha256"]
    if not isinstance(path, str) or not _is_count(size) or not isinstance(sha256, str) or not SHA256_HEX.match(sha256):
        raise InvalidManifest(f"The manifest's entry for {str(path)[:80]!r} is malformed.")
    return FileEntry(path, size, sha256)


def _parse_tensor(item: object) -> TensorEntry:
    if not isinstance(item, dict) or set(item) != {"name", "dtype", "shape"}:
        raise InvalidManifest("Every tensor of a manifest has a name, a dtype and a shape, and nothing else.")
    name, dtype, shape = item["name"], item["dtype"], item["shape"]
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list):
        raise InvalidManifest(f"The manifest's entry for tensor {str(name)[:80]!r} is malformed.")
    if not all(_is_count(side) for side in shape):
        raise InvalidManifest(f"The shape of tensor {name[:80]!r} is malformed.")
    return TensorEntry(name, dtype, tuple(shape))


def _parse_base(item: object) -> BaseIdentity:
    names = set(BaseIdentity.__dataclass_fields__)
    if not isinstance(item, dict) or not set(item) <= names:
        raise InvalidManifest(f"The manifest's base may say {', '.join(sorted(names))}, and nothing else.")
    if not all(isinstance(value, str) and len(value) <= 65_536 for value in item.values()):
        raise InvalidManifest("Every field of the manifest's base is a text.")
    return BaseIdentity(**item)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53
