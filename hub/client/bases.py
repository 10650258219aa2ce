"""Find out what a base model is, wherever it is, without loading it and without its weights.

    open_base("./llama")                    a folder: headers, and a few KB of each tensor
    open_base("./llama/config.json")        shapes alone, computed from the config
    open_base("meta-llama/Llama-3.2-1B")    a Hugging Face id: from its local cache if it is whole there, else the
                                            config and the safetensors headers by range requests

A base is only ever what the caller names: no config of an adapter makes this module fetch anything.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from hub.base.checkpoint import CONFIG, INDEX, SINGLE, open_checkpoint
from hub.base.sketch import take_sketch
from hub.base.spec import BaseSpec
from hub.errors import BaseNotFound, InvalidRequest, NetworkError, Unsupported
from hub.formats.readable import LocalFile, Readable

_HF_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?\Z")
_WEIGHTS = re.compile(r".+\.safetensors\Z")
_READ_AHEAD_BYTES = 256 * 1024
_MAX_BLOCKS = 64


def open_base(base: str | os.PathLike[str], *, offline: bool = False, endpoint: str | None = None) -> BaseSpec:
    """Return the spec of a base: a model folder, a config.json, or a Hugging Face id (`org/name[@revision]`).

    offline: ask no network, use the local Hugging Face cache alone.  endpoint: instead of HF_ENDPOINT.
    Raises BaseNotFound, NetworkError, InvalidRequest, Unsupported, InvalidSafetensors.
    """
    path = Path(base).expanduser()
    if path.is_dir():
        return BaseSpec.from_folder(path)
    if path.is_file():
        return _from_config_file(path)
    text = os.fspath(base)
    if isinstance(base, os.PathLike) or text.startswith((".", "/", "~")) or not _HF_ID.match(text):
        raise BaseNotFound(f"There is no base model at {text}. Name its folder, or a Hugging Face id such as org/name.")
    repo, _, revision = text.partition("@")
    return _from_cache(repo, revision or None) or _from_hub(repo, revision or None, offline, endpoint)


def _from_config_file(path: Path) -> BaseSpec:
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidRequest(f"{path} is not a model's {CONFIG}: {error}.") from error
    if not isinstance(config, dict):
        raise InvalidRequest(f"{path} is not a model's {CONFIG}: it is no JSON object.")
    return BaseSpec.from_config(config)


# --- the Hugging Face cache on this disk


def _from_cache(repo: str, revision: str | None) -> BaseSpec | None:
    """Return the spec of a model that is whole in the local Hugging Face cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, CONFIG, revision=revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    if not _has_all_weights(folder):
        return None
    return replace(BaseSpec.from_folder(folder), id=repo, revision=folder.name)


def _has_all_weights(folder: Path) -> bool:
    if (folder / SINGLE).exists():
        return True
    if not (folder / INDEX).exists():
        return False
    shards = set(json.loads((folder / INDEX).read_bytes()).get("weight_map", {}).values())
    return bool(shards) and all((folder / shard).exists() for shard in shards)


# --- the hub, by its headers


def _from_hub(repo: str, revision: str | None, offline: bool, endpoint: str | None) -> BaseSpec:
    if offline:
        raise BaseNotFound(
            f"{repo} is not whole in the local Hugging Face cache, and LORAHUB_OFFLINE is set. Name a folder."
        )
    files, commit = _remote_files(repo, revision, endpoint)
    try:
        spec = BaseSpec.from_files(files, fingerprint=False)
        if not any(_WEIGHTS.match(name) for name in files):
            return replace(spec, id=repo, revision=commit)
        # 32 small reads; the fingerprint of every tensor would take a thousand.
        sketch = take_sketch(spec.modules, open_checkpoint(files).read)
    except Unsupported:
        config = json.loads(files[CONFIG].read(0, files[CONFIG].size))
        return replace(BaseSpec.from_config(config), id=repo, revision=commit)
    return replace(spec, id=repo, revision=commit, sketch=sketch)


def _remote_files(repo: str, revision: str | None, endpoint: str | None) -> tuple[dict[str, Readable], str | None]:
    """Return the config, the index and the weights of a model on the hub, and its commit."""
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True)
        commit = info.sha
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        files: dict[str, Readable] = {}
        for name in (CONFIG, INDEX):
            if name in sizes:
                local = hf_hub_download(repo, name, revision=commit, endpoint=endpoint)
                files[name] = LocalFile(Path(local))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise BaseNotFound(
            f"{repo} is no model on {endpoint or constants.ENDPOINT}, or a private one (hf auth login). "
            "For a folder on this disk, write ./ in front."
        ) from error
    except (HfHubHTTPError, *_http_errors(), OSError) as error:
        raise NetworkError(
            f"{endpoint or constants.ENDPOINT} can't be asked about {repo} ({_first_line(error)}). "
            "Name the base model's folder instead."
        ) from error
    for name, size in sizes.items():
        if _WEIGHTS.match(name) and "/" not in name:
            files[name] = _RemoteFile(api, repo, name, commit, size)
    return files, commit


class _RemoteFile:
    """A file on the hub, read by ranges.  Small reads near each other cost one request."""

    def __init__(self, api: Any, repo: str, name: str, commit: str | None, size: int) -> None:
        from huggingface_hub import hf_hub_url

        self._url = hf_hub_url(repo, name, revision=commit, endpoint=api.endpoint)
        self._size = size
        self._blocks: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, or fewer at the end."""
        end = min(offset + size, self._size)
        if end - offset > _READ_AHEAD_BYTES:
            return self._fetch(offset, end)
        parts, position = [], offset
        while position < end:
            start = position // _READ_AHEAD_BYTES * _READ_AHEAD_BYTES
            block = self._block(start)
            part = block[position - start : end - start]
            if not part:
                break
            parts.append(part)
            position += len(part)
        return b"".join(parts)

    def _block(self, start: int) -> bytes:
        if start not in self._blocks:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[start] = self._fetch(start, min(start + _READ_AHEAD_BYTES, self._size))
        return self._blocks[start]

    def _fetch(self, start: int, end: int) -> bytes:
        from huggingface_hub.utils import build_hf_headers, get_session

        headers = build_hf_headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            response = get_session().get(self._url, headers=headers, follow_redirects=True)
            response.raise_for_status()
        except _http_errors() as error:
            raise NetworkError(f"A header of the base can't be read ({_first_line(error)}). Try again.") from error
        if response.status_code != 206:
            raise NetworkError("The hub does not answer range requests. Name the base model's folder instead.")
        return bytes(response.content)


def _http_errors() -> tuple[type[Exception], ...]:
    """The errors of whichever HTTP client huggingface_hub uses."""
    from huggingface_hub.utils import get_session

    module = __import__(type(get_session()).__module__.split(".")[0])
    return (module.HTTPError,)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
