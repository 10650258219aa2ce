"""What a registry tells its clients, as frozen values: versions, adapters, pages of a search, who we are.

Each is read from the JSON of the API once, at the edge.  An answer of another shape is a NetworkError: whatever sent it
is not a lorahub registry.  `raw` keeps the answer as it came, for `--json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.errors import DigestMismatch, NetworkError
from hub.manifest import BaseIdentity, Manifest
from hub.refs import AdapterName, AdapterRef, parse_selector


@dataclass(frozen=True, slots=True)
class Yank:
    """A version that is kept for those who name it, and chosen for nobody."""

    reason: str
    at: str


@dataclass(frozen=True, slots=True)
class Deprecation:
    reason: str
    successor: str | None


@dataclass(frozen=True, slots=True)
class AliasInfo:
    alias: str
    version: str
    protected: bool = False

    @classmethod
    def from_json(cls, payload: object) -> AliasInfo:
        body = Reader(payload, "alias")
        version = body.payload.get("version")
        shown = f"v{version}" if isinstance(version, int) else str(version)
        return cls(body.text("alias"), shown, bool(body.payload.get("protected")))


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version, as the registry describes it.  `manifest` is there when one version was asked for, not in lists."""

    adapter: AdapterName
    version: int
    digest: str
    created_at: str
    created_by: str
    message: str
    task: str | None
    size_bytes: int
    file_count: int
    rank: int | None
    alpha: float | None
    method: str
    target_modules: tuple[str, ...]
    dtype: str | None
    parameters: int | None
    downloads: int
    aliases: tuple[str, ...]
    yanked: Yank | None
    deprecated: Deprecation | None
    manifest: Manifest | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ref(self) -> AdapterRef:
        return self.adapter.at(self.version)

    @property
    def warning(self) -> str | None:
        """What every user of this version must be told, or None."""
        if self.yanked:
            return f"{self.ref} was yanked: {self.yanked.reason or 'no reason given'}."
        if self.deprecated:
            successor = f" Use {self.deprecated.successor} instead." if self.deprecated.successor else ""
            return f"{self.ref} is deprecated: {self.deprecated.reason or 'no reason given'}.{successor}"
        return None

    @classmethod
    def from_json(cls, payload: object) -> VersionInfo:
        """Raises NetworkError for another shape, DigestMismatch for a manifest that isn't the digest's."""
        body = Reader(payload, "version")
        manifest = body.optional("manifest", dict)
        info = cls(
            adapter=AdapterName.parse(body.text("adapter")),
            version=body.number("version"),
            digest=body.text("digest").removeprefix("sha256:"),
            created_at=body.text("created_at", ""),
            created_by=body.text("created_by", ""),
            message=body.text("message", ""),
            task=body.optional("task", str),
            size_bytes=body.number("size_bytes"),
            file_count=body.number("files", 0),
            rank=body.optional("rank", int),
            alpha=body.optional("alpha", (int, float)),
            method=body.text("method", "lora"),
            target_modules=_as_texts(body.optional("target_modules", (list, str))),
            dtype=body.optional("dtype", str),
            parameters=body.optional("parameters", int),
            downloads=body.number("downloads", 0),
            aliases=_alias_names(body.items("aliases")),
            yanked=_parse_yank(body.optional("yanked", dict)),
            deprecated=_parse_deprecation(body.optional("deprecated", dict)),
            manifest=Manifest.from_json(manifest) if manifest is not None else None,
            raw=body.payload,
        )
        if info.manifest is not None and info.manifest.digest != info.digest:
            raise DigestMismatch(
                f"The registry's manifest of {info.ref} is not the one that its digest names. Nothing was fetched; "
                "tell the registry's operator to run: lorahub fsck"
            )
        return info


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """One adapter: what all of its versions share."""

    name: AdapterName
    task: str | None
    description: str
    license: str | None
    tags: tuple[str, ...]
    private: bool
    gated: bool
    base: BaseIdentity
    latest: str | None
    aliases: tuple[AliasInfo, ...]
    version_count: int
    downloads: int
    updated_at: str
    rank: int | None
    method: str | None
    deprecated: Deprecation | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, payload: object) -> AdapterInfo:
        body = Reader(payload, "adapter")
        base = Reader(body.optional("base", dict) or {}, "base")
        return cls(
            name=AdapterName.parse(body.text("name")),
            task=body.optional("task", str),
            description=body.text("description", ""),
            license=body.optional("license", str),
            tags=_as_texts(body.items("tags")),
            private=bool(body.payload.get("private")),
            gated=bool(body.payload.get("gated")),
            base=BaseIdentity(base.optional("id", str), base.optional("revision", str)),
            latest=body.optional("latest", str),
            aliases=tuple(AliasInfo.from_json(item) for item in body.items("aliases")),
            version_count=body.number("versions", 0),
            downloads=body.number("downloads", 0),
            updated_at=body.text("updated_at", ""),
            rank=body.optional("rank", int),
            method=body.optional("method", str),
            deprecated=_parse_deprecation(body.optional("deprecated", dict)),
            raw=body.payload,
        )


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of a search.  `next_cursor` asks for the page after it; facets count values over the whole result."""

    items: tuple[AdapterInfo, ...]
    total: int
    next_cursor: str | None
    facets: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, payload: object) -> SearchPage:
        body = Reader(payload, "search page")
        return cls(
            items=tuple(AdapterInfo.from_json(item) for item in body.items("items")),
            total=body.number("total", 0),
            next_cursor=body.optional("next", str),
            facets=body.optional("facets", dict) or {},
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the registry takes us for."""

    user: str
    is_admin: bool
    token_name: str | None
    scopes: tuple[str, ...]
    namespaces: tuple[tuple[str, str], ...]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, payload: object) -> Identity:
        body = Reader(payload, "identity")
        token = Reader(body.optional("token", dict) or {}, "token")
        roles = [Reader(item, "namespace") for item in body.items("namespaces")]
        return cls(
            user=body.text("user"),
            is_admin=bool(body.payload.get("admin")),
            token_name=token.optional("name", str),
            scopes=_as_texts(token.items("scopes")),
            namespaces=tuple((role.text("name"), role.text("role", "")) for role in roles),
            raw=body.payload,
        )


@dataclass(frozen=True, slots=True)
class UploadPart:
    number: int
    href: str


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Where the registry wants the bytes of one blob: `append` to it from `offset`, or PUT each of `parts`."""

    sha256: str
    size: int
    id: str
    href: str
    offset: int
    mode: str
    part_size: int = 0
    parts: tuple[UploadPart, ...] = ()

    @classmethod
    def from_json(cls, payload: object) -> UploadPlan | None:
        """Return None for a blob that the registry has already."""
        body = Reader(payload, "upload")
        if body.text("state") == "present":
            return None
        upload = Reader(body.optional("upload", dict), "upload")
        return cls(
            sha256=body.text("sha256"),
            size=body.number("size"),
            id=upload.text("id"),
            href=upload.text("href", ""),
            offset=upload.number("offset", 0),
            mode=upload.text("mode"),
            part_size=upload.number("part_size", 0),
            parts=tuple(
                UploadPart(part.number("number"), part.text("href"))
                for part in (Reader(item, "part") for item in upload.items("parts"))
            ),
        )


class Reader:
    """Takes typed fields out of a JSON object.  Raises NetworkError, which names the field, for anything else."""

    def __init__(self, payload: object, what: str) -> None:
        if not isinstance(payload, dict):
            raise NetworkError(_foreign(f"its {what} is not an object"))
        self.payload: dict[str, Any] = payload
        self._what = what

    def text(self, key: str, default: str | None = None) -> str:
        value = self.payload.get(key)
        if value is None and default is not None:
            return default
        return str(self._typed(key, value, str))

    def number(self, key: str, default: int | None = None) -> int:
        value = self.payload.get(key)
        if value is None and default is not None:
            return default
        return int(self._typed(key, value, int))

    def optional(self, key: str, kind: type | tuple[type, ...]) -> Any:
        value = self.payload.get(key)
        return None if value is None else self._typed(key, value, kind)

    def items(self, key: str) -> list[Any]:
        found: list[Any] = self.optional(key, list) or []
        return found

    def _typed(self, key: str, value: object, kind: type | tuple[type, ...]) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise NetworkError(_foreign(f"its {self._what} has no proper {key!r}"))
        return value


def _foreign(why: str) -> str:
    return f"The answer is not one of a lorahub registry: {why}. Check LORAHUB_ENDPOINT."


def _as_texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list) else (str(value),)


def _alias_names(items: list[Any]) -> tuple[str, ...]:
    """Return the names, each of which may become the name of a file.  Raises InvalidRef for one that is none."""
    texts = [str(item["alias"]) if isinstance(item, dict) and "alias" in item else str(item) for item in items]
    return tuple(parse_selector(text) for text in texts)


def _parse_yank(payload: dict[str, Any] | None) -> Yank | None:
    return None if payload is None else Yank(str(payload.get("reason") or ""), str(payload.get("at") or ""))


def _parse_deprecation(payload: dict[str, Any] | None) -> Deprecation | None:
    if payload is None:
        return None
    successor = payload.get("successor")
    return Deprecation(str(payload.get("reason") or ""), str(successor) if successor else None)
