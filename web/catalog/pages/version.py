"""What the pages of an adapter and of one version show, read from the manifest and the small files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath

from markupsafe import Markup

from hub.adapter.config import LoraConfig
from hub.errors import InvalidAdapter
from hub.manifest import WEIGHTS_FILE, FileEntry, Manifest
from hub.registry.values import DailyDownloads, StoredFile, Version

from ..highlight import highlight
from ..snippets import Snippet, SnippetSource, snippets, vllm_rank
from .links import file_url, raw_url

MAX_PREVIEW_BYTES = 256 * 1024
DOWNLOAD_DAYS = 60

# In colours where the lexer takes no longer over hostile text than over any other.
_LANGUAGES = {".json": "json", ".md": "", ".txt": "", ".yaml": "", ".yml": "", ".jinja": "", ".py": ""}
_TEXT_NAMES = frozenset({"LICENSE", "NOTICE", ".gitattributes", ".gitignore"})
_LLAMA_TARGETS = (
    ("q_proj", "q"),
    ("k_proj", "k"),
    ("v_proj", "v"),
    ("o_proj", "o"),
    ("gate_proj", "gate"),
    ("up_proj", "up"),
    ("down_proj", "down"),
)


@dataclass(frozen=True, slots=True)
class FileRow:
    """One line of the file browser."""

    path: str
    size: int
    sha256: str
    page: str
    raw: str


@dataclass(frozen=True, slots=True)
class SnippetView:
    """A snippet with its code in colours; `plain` is what the copy button copies."""

    key: str
    title: str
    code: Markup
    plain: str
    note: str


@dataclass(frozen=True, slots=True)
class ServingFit:
    """Whether vLLM serves this adapter as it is, and with which limit; else why not."""

    limit: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    label: str
    on: bool


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version with everything that its manifest tells.  patterns: how many rank patterns its config has."""

    version: Version
    manifest: Manifest
    config: LoraConfig
    files: tuple[FileRow, ...]
    snippets: tuple[SnippetView, ...]
    fit: ServingFit
    patterns: int


def view_version(version: Version, private: bool, endpoint: str) -> VersionView:
    """Return the view of a resolved version.  private: its adapter is.  endpoint: the registry's, for the snippets."""
    manifest = version.manifest
    config = read_config(manifest)
    source = SnippetSource(
        ref=version.ref,
        endpoint=endpoint,
        base_id=version.base,
        rank=version.rank,
        method=version.method,
        private=private,
        weights=manifest.file(WEIGHTS_FILE),
        has_modules_to_save=bool(config.modules_to_save),
    )
    return VersionView(
        version=version,
        manifest=manifest,
        config=config,
        files=tuple(_file_row(version, entry) for entry in manifest.files),
        snippets=tuple(_snippet_view(snippet) for snippet in snippets(source)),
        fit=serving_fit(version.rank, config),
        patterns=pattern_count(manifest),
    )


def read_config(manifest: Manifest) -> LoraConfig:
    """Return the manifest's config, without its patterns: no page matches them, and a stranger's may be thousands.

    One from before a rule that it breaks is shown with the defaults.
    """
    config = {name: value for name, value in manifest.config.items() if name not in {"rank_pattern", "alpha_pattern"}}
    try:
        return LoraConfig.from_json(config)
    except InvalidAdapter:
        return LoraConfig(raw=config)


def pattern_count(manifest: Manifest) -> int:
    patterns = manifest.config.get("rank_pattern")
    return len(patterns) if isinstance(patterns, Mapping) else 0


def _file_row(version: Version, entry: FileEntry) -> FileRow:
    name, number = version.adapter, version.number
    return FileRow(
        entry.path, entry.size, entry.sha256, file_url(name, number, entry.path), raw_url(name, number, entry.path)
    )


def _snippet_view(snippet: Snippet) -> SnippetView:
    return SnippetView(
        snippet.key,
        snippet.title,
        Markup(highlight(snippet.code, snippet.language)),  # noqa: S704 - highlight escapes every character
        snippet.code,
        snippet.note,
    )


def serving_fit(rank: int, config: LoraConfig) -> ServingFit:
    """Say whether vLLM takes the adapter.  Source: vllm/lora/peft_helper.py, which refuses DoRA and modules_to_save."""
    reasons = []
    if config.use_dora:
        reasons.append("DoRA is not served")
    if config.modules_to_save:
        reasons.append("it carries whole modules (modules_to_save)")
    if config.bias != "none":
        reasons.append("it changes biases")
    limit = vllm_rank(rank)
    if limit is None:
        reasons.append(f"rank {rank} is over every limit")
    return ServingFit(None if reasons else limit, tuple(reasons))


def targets(names: Sequence[str]) -> tuple[Target, ...]:
    """Return the seven projections of a llama-like block with those that are adapted switched on.

    Empty when something else is adapted too: then the names say it better.
    """
    known = dict(_LLAMA_TARGETS)
    if not names or any(name not in known for name in names):
        return ()
    return tuple(Target(label, name in names) for name, label in _LLAMA_TARGETS)


def read_start(stored: StoredFile, limit: int) -> bytes:
    """Return the first `limit` bytes of a file, or all of a shorter one."""
    return b"".join(stored.open(0, min(limit, stored.entry.size)))


def is_text(path: str) -> bool:
    """Whether the file browser shows the content of a file of that name."""
    name = PurePosixPath(path)
    return name.suffix.lower() in _LANGUAGES or name.name in _TEXT_NAMES


def preview(path: str, data: bytes) -> Markup:
    """Return a text file as escaped HTML, in colours where its language is known."""
    text = data[:MAX_PREVIEW_BYTES].decode("utf-8", "replace")
    language = _LANGUAGES.get(PurePosixPath(path).suffix.lower(), "")
    return Markup(highlight(text, language))  # noqa: S704 - highlight escapes every character


def fill_days(history: Sequence[DailyDownloads], today: date | None = None) -> tuple[tuple[date, int], ...]:
    """Return one (day, downloads) for each of the last days, quiet days included, oldest first."""
    last = today or datetime.now(UTC).date()
    counts = {date.fromisoformat(entry.day): entry.count for entry in history}
    days = [last - timedelta(days=back) for back in range(DOWNLOAD_DAYS - 1, -1, -1)]
    return tuple((day, counts.get(day, 0)) for day in days)
