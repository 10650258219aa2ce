"""How an adapter is named: `namespace/name[@vN|@alias|@sha256:…]`, parsed once, at the edge."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from hub.errors import InvalidRef

MAX_ADAPTER_NAME_LENGTH = 96
"""Of `namespace/name` in all: the limit of the Hugging Face Hub, so that every name works there too."""

LATEST = "latest"
"""The alias that every adapter has: its newest version that isn't yanked.  It can't be moved by hand."""


class Unchecked(Enum):
    """The mark of an alias that is moved whatever it points to now."""

    UNCHECKED = "unchecked"


UNCHECKED = Unchecked.UNCHECKED

_PART = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})\Z")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_RESERVED_ALIASES = frozenset({LATEST, "main", "head"})


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """`namespace/name`, without a selector."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> AdapterName:
        """Raise InvalidRef unless `text` is `namespace/name`."""
        namespace, slash, name = text.partition("/")
        if not slash:
            raise InvalidRef(f"{text!r} is not an adapter's name: write namespace/name, e.g. task/qa.")
        _check_part(namespace, "namespace", text)
        _check_part(name, "name", text)
        if len(text) > MAX_ADAPTER_NAME_LENGTH:
            raise InvalidRef(
                f"{text[:40]!r}… has {len(text)} characters; namespace/name may have {MAX_ADAPTER_NAME_LENGTH}."
            )
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def at(self, selector: str | int) -> AdapterRef:
        """Return the ref of one version: `at(3)`, `at("v3")`, `at("prod")`."""
        return AdapterRef(self, f"v{selector}" if isinstance(selector, int) else parse_selector(selector))


@dataclass(frozen=True, slots=True, order=True)
class AdapterRef:
    """An adapter and which version of it.  `selector` is `vN`, an alias, or `sha256:<64 hex>`."""

    adapter: AdapterName
    selector: str = LATEST

    @classmethod
    def parse(cls, text: str) -> AdapterRef:
        """Read `ns/name[@selector]` or `hf://ns/name[@rev]`.  Raises InvalidRef, which says what is wrong."""
        body = text.strip().removeprefix("hf://")
        if "@" not in body:
            return cls(AdapterName.parse(body))
        name, _, selector = body.partition("@")
        return cls(AdapterName.parse(name), parse_selector(selector))

    def __str__(self) -> str:
        return str(self.adapter) if self.selector == LATEST else f"{self.adapter}@{self.selector}"

    @property
    def version(self) -> int | None:
        """N of `@vN`, or None."""
        found = _VERSION.match(self.selector)
        return int(found[1]) if found else None

    @property
    def digest(self) -> str | None:
        """The 64 hex digits of `@sha256:…`, or None."""
        found = _DIGEST.match(self.selector)
        return found[1] if found else None

    @property
    def alias(self) -> str | None:
        """The alias's name, `latest` included, or None."""
        return None if self.version or self.digest else self.selector

    @property
    def is_immutable(self) -> bool:
        """Whether this ref can only ever mean one version."""
        return self.alias is None


def parse_selector(text: str) -> str:
    """Return `text` if it may stand behind `@`: `vN`, `sha256:…`, or an alias.  Raises InvalidRef."""
    if _VERSION.match(text) or _DIGEST.match(text):
        return text
    if text.startswith("sha256:"):
        raise InvalidRef(f"@{text[:80]} is not a digest: sha256: is followed by 64 lower-case hex digits.")
    if len(text) > MAX_ADAPTER_NAME_LENGTH or not _ALIAS.match(text) or ".." in text:
        raise InvalidRef(
            f"@{text[:80]} selects no version: write @v3, an alias such as @prod, or @sha256:<64 hex digits>."
        )
    return text


def parse_alias(text: str) -> str:
    """Return `text` if a user may create an alias of that name.  Raises InvalidRef."""
    selector = parse_selector(text)
    looks_like_version = re.match(r"v[0-9]", selector) is not None
    if _COMMIT.match(selector) or selector.startswith("sha256:") or looks_like_version:
        raise InvalidRef(f"{text!r} can't be an alias: it reads as a version. Choose a word, e.g. prod.")
    if selector.lower() in _RESERVED_ALIASES:
        raise InvalidRef(f"{text!r} can't be an alias: lorahub moves it by itself. Choose another word, e.g. prod.")
    if selector.startswith(("draft/", "refs/")):
        raise InvalidRef(f"{text!r} can't be an alias: drafts are named so. Choose another word, e.g. prod.")
    return selector


def parse_namespace(text: str) -> str:
    """Return `text` if it may name a namespace.  Raises InvalidRef."""
    _check_part(text, "namespace", text)
    return text


def _check_part(part: str, kind: str, whole: str) -> None:
    if not part:
        raise InvalidRef(f"{whole[:80]!r} has an empty {kind}: write namespace/name, e.g. task/qa.")
    if "/" in part:
        raise InvalidRef(f"{whole[:80]!r} has more than one '/': write namespace/name, e.g. task/qa.")
    if not _PART.match(part) or "--" in part or ".." in part:
        raise InvalidRef(
            f"{part[:80]!r} can't be a {kind}: use lower-case letters, digits, '.', '_' and '-', "
            "starting with a letter or digit, without '--' or '..'."
        )
    if part.endswith((".", "-", ".git")) or len(part) > MAX_ADAPTER_NAME_LENGTH:
        raise InvalidRef(f"{part[:80]!r} can't be a {kind}: it may not end in '.', '-' or '.git', nor be so long.")
