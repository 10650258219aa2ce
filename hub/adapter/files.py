"""An adapter's files: which of a folder's belong to it, whether they are one whole adapter, and their manifest.

    scan = scan_folder(folder)                 # what would be pushed, and what is left out and why
    content = inspect_adapter(scan.readables())
    manifest = build_manifest(folder, base=identity)

The same code reads a local folder and a registry's storage: it asks for a `Readable`, never for a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hub.adapter.config import MAX_CONFIG_BYTES, LoraConfig
from hub.adapter.content import AdapterContent, check_publishable
from hub.adapter.file_rules import (
    CONVERSION_STEP,
    MAGIC_BYTES,
    PICKLED_WEIGHTS_FILE,
    Verdict,
    check_magic,
    check_name,
    rule_for,
)
from hub.adapter.keys import parse_key
from hub.adapter.provenance import MAX_PROVENANCE_BYTES, PROVENANCE_FILE, Provenance
from hub.errors import InvalidAdapter, InvalidSafetensors, UnsafeFile
from hub.formats.readable import LocalFile, Progress, Readable, hash_readable
from hub.formats.safetensors_header import Header, parse_header, read_header
from hub.manifest import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    BaseIdentity,
    FileEntry,
    Manifest,
    TensorEntry,
    check_path,
    check_paths,
)


@dataclass(frozen=True, slots=True)
class FolderScan:
    """files: path in the adapter -> path on this disk.  left_out: (path, reason) of everything else."""

    files: Mapping[str, Path]
    left_out: tuple[tuple[str, str], ...]

    def readables(self) -> dict[str, Readable]:
        return {name: LocalFile(path) for name, path in self.files.items()}


def scan_folder(folder: Path | str) -> FolderScan:
    """Return the files of `folder` that make up its adapter, and what is left out and why.

    Raises InvalidAdapter if the config or the weights are missing, and UnsafeFile for weights that are only there as a
    pickle, for a pickle under an allowed name, for a link out of the folder, and for a name no system should store.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidAdapter(f"{root} is not a folder. Name the folder that PEFT's save_pretrained wrote.")
    files: dict[str, Path] = {}
    left_out: list[tuple[str, str]] = []
    for name, path in _walk(root, root, left_out):
        rule = rule_for(name)
        if rule.verdict is not Verdict.KEEP:
            left_out.append((name, rule.reason))
        elif path.suffix == ".safetensors" and name != WEIGHTS_FILE:
            left_out.append((name, f"an adapter's weights are in {WEIGHTS_FILE}"))
        else:
            files[name] = _checked(root, name, path)
    check_paths(sorted(files))
    _check_whole(root, files)
    return FolderScan(dict(sorted(files.items())), tuple(sorted(left_out)))


def _walk(root: Path, folder: Path, left_out: list[tuple[str, str]]) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        name = path.relative_to(root).as_posix()
        if entry.is_dir(follow_symlinks=False):
            rule = rule_for(f"{name}/file.json")
            if rule.verdict is Verdict.KEEP:
                yield from _walk(root, path, left_out)
            else:
                left_out.append((f"{name}/", rule.reason))
        elif entry.is_file():
            yield name, path
        else:
            left_out.append((name, "it is not a plain file"))


def _checked(root: Path, name: str, path: Path) -> Path:
    check_path(name)
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise UnsafeFile(f"{name!r} is a link out of the folder. Copy the file itself into {root}.", path=name)
    with open(path, "rb") as file:
        check_magic(name, file.read(MAGIC_BYTES))
    return path


def _check_whole(root: Path, files: Mapping[str, Path]) -> None:
    if CONFIG_FILE not in files:
        _refuse_other_trainers(root)
        raise InvalidAdapter(
            f"{root} has no {CONFIG_FILE}, so it is not an adapter. Name the folder that PEFT's save_pretrained wrote."
        )
    if WEIGHTS_FILE in files:
        return
    if (root / PICKLED_WEIGHTS_FILE).exists():
        raise UnsafeFile(
            f"{root} has its weights as {PICKLED_WEIGHTS_FILE} only: a pickle, which runs code when opened and is "
            f"never stored. {CONVERSION_STEP}.",
            path=PICKLED_WEIGHTS_FILE,
        )
    raise InvalidAdapter(f"{root} has no {WEIGHTS_FILE}. Save the adapter again: model.save_pretrained({str(root)!r}).")


def _refuse_other_trainers(root: Path) -> None:
    """Raise InvalidAdapter, which says what they are, if the folder holds the weights of another trainer."""
    for path in sorted(root.glob("*.safetensors"))[:3]:
        names = list(read_header(path).tensors)
        for name in names[:8]:
            parse_key(name)


def inspect_adapter(files: Mapping[str, Readable]) -> AdapterContent:
    """Return the config and the tensors of an adapter's files, wherever they are.

    Reads the config, the headers of the safetensors files and the first bytes of the others.  Raises InvalidAdapter,
    InvalidSafetensors or UnsafeFile.  What the config and the tensors say of each other is `check_content`'s.
    """
    check_paths(sorted(files))
    for name, file in files.items():
        check_name(name)
        check_magic(name, file.read(0, MAGIC_BYTES))
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if needed not in files:
            raise InvalidAdapter(f"There is no {needed}, so this is not a whole adapter. Add the file.", missing=needed)
    config = LoraConfig.parse(_read_config(files[CONFIG_FILE]))
    headers = {name: _header(name, file) for name, file in files.items() if name.endswith(".safetensors")}
    tensors = headers[WEIGHTS_FILE].tensors.values()
    return AdapterContent.build(config, (TensorEntry(t.name, t.dtype, t.shape) for t in tensors))


def read_weights_header(files: Mapping[str, Readable]) -> Header:
    """Return the header of the weights: where each tensor lies in the file.  Raises InvalidSafetensors."""
    return _header(WEIGHTS_FILE, files[WEIGHTS_FILE])


def _read_config(file: Readable) -> bytes:
    if file.size > MAX_CONFIG_BYTES:
        raise InvalidAdapter(f"{CONFIG_FILE} has {file.size:,} bytes; {MAX_CONFIG_BYTES:,} are allowed.")
    return file.read(0, MAX_CONFIG_BYTES)


def _header(name: str, file: Readable) -> Header:
    try:
        return parse_header(file.read, file.size)
    except InvalidSafetensors as error:
        raise InvalidSafetensors(f"{name}: {error.message}", path=name) from error


def build_manifest(
    adapter: Path | str | Mapping[str, Readable],
    base: BaseIdentity | None = None,
    progress: Progress | None = None,
    known: Mapping[str, FileEntry] | None = None,
) -> Manifest:
    """Return the manifest of a folder, or of files wherever they are, after checking that they may be published.

    base: what is known of the base, else what training wrote into `lorahub.json`; what it leaves out, the config says.
    known: entries of files whose hash was verified before: these are not read again.
    Raises InvalidAdapter, InvalidSafetensors or UnsafeFile.
    """
    files = adapter if isinstance(adapter, Mapping) else scan_folder(adapter).readables()
    content = inspect_adapter(files)
    check_publishable(content)
    entries = [(known or {}).get(name) or _entry(name, file, progress) for name, file in files.items()]
    return Manifest(
        files=tuple(sorted(entries)),
        config=content.config.raw,
        tensors=content.tensors,
        base=_base_identity(base or _recorded_base(files), content.config),
    )


def _entry(name: str, file: Readable, progress: Progress | None) -> FileEntry:
    sha256, size = hash_readable(file, progress)
    return FileEntry(name, size, sha256)


def _recorded_base(files: Mapping[str, Readable]) -> BaseIdentity | None:
    recorded = files.get(PROVENANCE_FILE)
    return Provenance.parse(recorded.read(0, MAX_PROVENANCE_BYTES + 1)).base if recorded else None


def _base_identity(base: BaseIdentity | None, config: LoraConfig) -> BaseIdentity:
    if base is None:
        return BaseIdentity(id=config.base_model, revision=config.base_revision)
    return replace(base, id=base.id or config.base_model, revision=base.revision or config.base_revision)
