"""A base model's folder, read by its headers: names and shapes as the loaded model has them, and samples of weights.

Files say less than one would like: old ones leave a prefix out, keep buffers among the parameters, store a tied output
layer twice, or have one tensor per expert where the model has one for all.  4-bit files store a weight as packed bytes
and its true shape in a small JSON tensor beside it.  All of that is translated here, once.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hub.base.architectures import Architecture, blueprint, head_of, is_tied, table_of
from hub.base.blueprint import Blueprint
from hub.base.sketch import Block
from hub.errors import InvalidRequest, InvalidSafetensors, Unsupported
from hub.formats import strict_json
from hub.formats.nf4 import BLOCK
from hub.formats.readable import Readable
from hub.formats.safetensors_header import DTYPE_BYTES, TensorInfo, parse_header

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
MAX_INDEX_BYTES = 32 * 1024 * 1024
_MAX_QUANT_STATE_BYTES = 4096
_MAX_CONFIG_VALUES = 400_000
_MAX_INDEX_VALUES = 1_000_000

_QUANT_STATE = re.compile(r"(.+)\.quant_state\.bitsandbytes__(nf4|fp4)\Z")
_QUANT_PARTS = re.compile(r".+\.(absmax|quant_map|nested_absmax|nested_quant_map|SCB|weight_format)\Z")
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight\Z")
_UP = frozenset({"w1", "w3", "gate_proj", "up_proj"})
_HEADS = ("lm_head.", "score.", "classifier.", "qa_outputs.")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One parameter: its true shape, what its weights are stored as, and where.  No file: put together from several.

    dtype: safetensors' name, or NF4 / FP4 for packed codes.  block: weights per code block, of packed codes.
    """

    shape: tuple[int, ...]
    dtype: str
    file: Readable | None = None
    start: int = 0
    block: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A base model's config, and its tensors by the names that the loaded model gives them."""

    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    plan: Blueprint | None

    def read(self, name: str, start: int, count: int) -> Block | None:
        """Read weights as `hub.base.sketch.ReadBlock` asks; None for what is not stored in one known piece."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.file is None:
            return None
        if tensor.block:
            kind = tensor.dtype if tensor.block == BLOCK else f"{tensor.dtype}/{tensor.block}"
            return Block(kind, tensor.file.read(tensor.start + start // 2, (count + 1) // 2))
        size = DTYPE_BYTES.get(tensor.dtype)
        return Block(tensor.dtype, tensor.file.read(tensor.start + start * size, count * size)) if size else None


def open_checkpoint(files: Mapping[str, Readable]) -> Checkpoint:
    """Read config.json and every header of a model's files.

    Raises InvalidRequest if the config or the weights are missing or malformed, InvalidSafetensors for a bad header.
    """
    config = read_model_config(files)
    raw: dict[str, StoredTensor] = {}
    for name in _weight_files(files):
        raw.update(_read_shard(name, files[name]))
    architecture = table_of(config)
    plan = blueprint(config) if architecture else None
    named = dict(_translate(raw, config, architecture))
    if plan is not None:
        named = _orient_packed(_fuse_experts(named, plan), plan)
    return Checkpoint(config, named, plan)


def read_model_config(files: Mapping[str, Readable]) -> dict[str, Any]:
    """Return the parsed config.json.  Raises InvalidRequest."""
    if CONFIG not in files:
        raise InvalidRequest(
            f"There is no {CONFIG}, so this is not a model's folder. Name a transformers model folder."
        )
    return _read_json(files[CONFIG], CONFIG, MAX_CONFIG_BYTES, _MAX_CONFIG_VALUES)


def _read_json(file: Readable, name: str, max_bytes: int, max_values: int) -> dict[str, Any]:
    try:
        payload = strict_json.loads(file.read(0, max_bytes + 1), max_bytes=max_bytes, max_values=max_values)
    except strict_json.StrictJsonError as error:
        raise InvalidRequest(f"The base's {name} {error}. Fetch the file again.") from error
    if not isinstance(payload, dict):
        raise InvalidRequest(f"The base's {name} is not a JSON object. Fetch the file again.")
    return payload


def _weight_files(files: Mapping[str, Readable]) -> list[str]:
    if SINGLE in files:
        return [SINGLE]
    if INDEX in files:
        index = _read_json(files[INDEX], INDEX, MAX_INDEX_BYTES, _MAX_INDEX_VALUES)
        shards = sorted({str(shard) for shard in dict(index.get("weight_map") or {}).values()})
        missing = [shard for shard in shards if shard not in files]
        if missing or not shards:
            raise InvalidRequest(
                f"{INDEX} names {', '.join(missing[:3]) or 'no files'}, not there. Fetch the base again."
            )
        return shards
    if any(name.endswith((".bin", ".pt", ".pth")) for name in files):
        raise Unsupported(
            "The base's weights are pickles, which are never opened. Save it as safetensors: "
            "AutoModelForCausalLM.from_pretrained(path).save_pretrained(path)."
        )
    raise InvalidRequest(f"There is neither {SINGLE} nor {INDEX}. Name a folder with the model's safetensors files.")


def _read_shard(name: str, file: Readable) -> dict[str, StoredTensor]:
    try:
        tensors = parse_header(file.read, file.size).tensors
    except InvalidSafetensors as error:
        raise InvalidSafetensors(f"The base's {name}: {error.message}", path=name) from error
    stored: dict[str, StoredTensor] = {}
    states = {found[1]: (found[2], info) for key, info in tensors.items() if (found := _QUANT_STATE.match(key))}
    for key, info in tensors.items():
        if key in states:
            stored[key] = _packed_tensor(key, info, file, *states[key])
        elif not _QUANT_STATE.match(key) and not _QUANT_PARTS.match(key):
            stored[key] = StoredTensor(info.shape, info.dtype, file, info.start)
    return stored


def _packed_tensor(name: str, info: TensorInfo, file: Readable, kind: str, state: TensorInfo) -> StoredTensor:
    try:
        payload = json.loads(file.read(state.start, min(state.size_bytes, _MAX_QUANT_STATE_BYTES)))
        shape, block = tuple(int(side) for side in payload["shape"]), int(payload["blocksize"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidSafetensors(
            f"The 4-bit state of the base's {name[:120]} can't be read. Save the base again."
        ) from error
    if (prod(shape) + 1) // 2 != info.size_bytes or block < 1:
        raise InvalidSafetensors(
            f"The 4-bit state of the base's {name[:120]} does not fit its weight. Save the base again."
        )
    return StoredTensor(shape, kind.upper(), file, info.start, block)


def _translate(
    raw: Mapping[str, StoredTensor], config: Mapping[str, Any], architecture: Architecture | None
) -> Iterator[tuple[str, StoredTensor]]:
    """Yield each parameter under the name that the loaded model gives it."""
    skips_head = is_tied(config)
    lacks_prefix = (
        architecture is not None
        and head_of(config) != "none"
        and not any(name.startswith(architecture.prefix) for name in raw)
    )
    for name, tensor in raw.items():
        if architecture is not None:
            if name.endswith(architecture.dropped):
                continue
            for old, new in architecture.renamed:
                name = name.replace(old, new)
            if lacks_prefix and not name.startswith(_HEADS):
                name = architecture.prefix + name
        if not (skips_head and name == "lm_head.weight"):
            yield name, tensor


def _fuse_experts(tensors: Mapping[str, StoredTensor], plan: Blueprint) -> dict[str, StoredTensor]:
    """Replace one tensor per expert by the one for all that the loaded model has."""
    fused: dict[str, StoredTensor] = {}
    groups: dict[str, list[StoredTensor]] = defaultdict(list)
    for name, tensor in tensors.items():
        found = _EXPERT.match(name)
        if found and f"{found[1]}.down_proj" in plan.tensors:
            groups[f"{found[1]}.{'gate_up_proj' if found[3] in _UP else 'down_proj'}"].append(tensor)
        else:
            fused[name] = tensor
    for name, members in groups.items():
        expected = plan.tensors[name]
        if sum(prod(member.shape) for member in members) == prod(expected):
            fused[name] = StoredTensor(expected, members[0].dtype)
    return fused


def _orient_packed(tensors: Mapping[str, StoredTensor], plan: Blueprint) -> dict[str, StoredTensor]:
    """Give 4-bit copies of Conv1D weights, which are stored transposed, the shape of the original."""
    oriented = dict(tensors)
    for name, module in plan.modules.items():
        tensor = tensors.get(f"{name}.weight")
        if module.kind == "conv1d" and tensor is not None and tensor.block:
            oriented[f"{name}.weight"] = replace(tensor, shape=tensor.shape[::-1])
    return oriented
