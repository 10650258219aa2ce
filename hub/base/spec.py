"""What can be known of a base model without loading it, and whether two bases are the same.

    spec = BaseSpec.from_folder("./llama")           # headers, and a few KB of each tensor
    spec = BaseSpec.from_config(config)              # shapes alone, from config.json
    spec = BaseSpec.from_tensors(config, shapes, read)   # a model in memory
    compare_identity(recorded, spec)                 # BaseMatch.COPY: a cast or NF4 copy of the recorded one

Three marks, from coarse to fine: `shapes`, a hash of tensor names and shapes, the same for every copy; `weights`, a
hash of samples of every tensor, the same for equal files; `sketch`, which recognises copies in other formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import prod
from pathlib import Path
from typing import Any

from hub.base.architectures import blueprint, head_of, is_tied, table_of
from hub.base.blueprint import Blueprint, ModuleShape
from hub.base.checkpoint import open_checkpoint, read_model_config
from hub.base.numbers import config_numbers, differing
from hub.base.sketch import Block, ReadBlock, is_same_model, sketch_places, take_sketch
from hub.errors import InvalidRequest
from hub.formats.readable import LocalFile, Readable
from hub.manifest import BaseIdentity

__all__ = [
    "BaseMatch",
    "BaseSpec",
    "Block",
    "ModuleShape",
    "ReadBlock",
    "TensorShape",
    "compare_identity",
    "sketch_places",
    "take_sketch",
]

_FILES = "files:"
_SAMPLE = 512
_SAMPLES = 4
_EMBEDDING_NAMES = frozenset(
    {"embed_tokens", "wte", "wpe", "word_embeddings", "embed_in", "embed_positions", "shared", "position_embeddings"}
)
_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class TensorShape:
    """A parameter's true shape, and what it is stored as: safetensors' name of a dtype, or NF4, FP4."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        return prod(self.shape)


class BaseMatch(Enum):
    """How the base at hand relates to the one that an adapter was trained for."""

    SAME_WEIGHTS = "same weights"
    COPY = "a copy of the same weights in another format"
    OTHER_FUNCTION = "the same weights, and numbers in config.json that compute something else of them"
    OTHER_WEIGHTS = "same shapes, other weights"
    OTHER_MODEL = "another model"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """A base model's tensors and modules, by the names that the loaded model gives them.

    quantization: None, `nf4`, `fp4`, `int8`, or what config.json calls another method.
    weights, sketch: None unless the weights could be read.
    names_from_files: the names are those of the files, and the loaded model, of an unknown architecture, may rename.
    missing: parameters that the config says and the files don't have, where the architecture is known.
    loaded: the same base by the names that the loaded model gives, where they differ and are known.
    rename: returns a module's name of today, of one that an older version of the architecture had; None: none had.
    tied: further names of tensors that are counted once, where they are known.
    """

    architecture: str | None
    model_type: str | None
    config: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, TensorShape] = field(repr=False)
    modules: Mapping[str, ModuleShape] = field(repr=False)
    quantization: str | None = None
    id: str | None = None
    revision: str | None = None
    weights: str | None = None
    sketch: str | None = field(default=None, repr=False)
    names_from_files: bool = False
    missing: tuple[str, ...] = ()
    loaded: BaseSpec | None = field(default=None, repr=False)
    rename: Callable[[str], str] | None = field(default=None, repr=False, compare=False)
    tied: Mapping[str, TensorShape] = field(default_factory=dict, repr=False)

    @classmethod
    def from_folder(cls, path: Path | str, *, fingerprint: bool = True) -> BaseSpec:
        """Read a model's folder; `fingerprint=False` reads headers only.

        Raises InvalidRequest if it is no model's folder, Unsupported if its weights are pickles, InvalidSafetensors.
        """
        root = Path(path)
        if not root.is_dir():
            raise InvalidRequest(f"{root} is not a folder. Name the base model's folder.")
        files: dict[str, Readable] = {p.name: LocalFile(p) for p in sorted(root.iterdir()) if p.is_file()}
        try:
            return cls.from_files(files, fingerprint=fingerprint)
        except InvalidRequest as error:
            raise InvalidRequest(f"{root}: {error.message}") from error

    @classmethod
    def from_files(cls, files: Mapping[str, Readable], *, fingerprint: bool = True) -> BaseSpec:
        """`from_folder` for files wherever they are."""
        config = read_model_config(files)
        method = _quantization(config)
        if method not in (None, "nf4", "fp4", "int8"):
            return cls.from_config(config)  # their packed shapes say nothing; config.json does
        checkpoint = open_checkpoint(files)
        tensors = {name: TensorShape(stored.shape, stored.dtype) for name, stored in checkpoint.tensors.items()}
        spec = cls._build(checkpoint.config, tensors, checkpoint.plan)
        spec = replace(spec, names_from_files=checkpoint.plan is None, missing=_missing(tensors, checkpoint.plan))
        return spec.with_weights(checkpoint.read) if fingerprint else spec

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BaseSpec:
        """Compute everything from a parsed config.json.  Raises Unsupported for an unknown architecture."""
        plan = blueprint(config)
        dtype = _DTYPES.get(str(config.get("dtype") or config.get("torch_dtype") or "float32"), "F32")
        return cls._build(config, {name: TensorShape(shape, dtype) for name, shape in plan.tensors.items()}, plan)

    @classmethod
    def from_tensors(
        cls, config: Mapping[str, Any], tensors: Mapping[str, TensorShape], read: ReadBlock | None = None
    ) -> BaseSpec:
        """Describe a model in memory.

        tensors: every parameter once (a tied one under its first name), with true shapes also where it is 4-bit.
        """
        plan = blueprint(config) if table_of(config) else None
        spec = cls._build(config, tensors, plan)
        return spec.with_weights(read) if read else spec

    @classmethod
    def _build(cls, config: Mapping[str, Any], tensors: Mapping[str, TensorShape], plan: Blueprint | None) -> BaseSpec:
        names = config.get("architectures")
        packed = {tensor.dtype for tensor in tensors.values()} & {"NF4", "FP4"}
        return cls(
            architecture=str(names[0]) if isinstance(names, list) and names else None,
            model_type=str(config["model_type"]) if config.get("model_type") else None,
            config=config,
            tensors=tensors,
            modules=dict(_modules(config, tensors, plan)),
            quantization=packed.pop().lower() if packed else _quantization(config),
        )

    def with_weights(self, read: ReadBlock) -> BaseSpec:
        """Return this spec with the marks of the weights that `read` reads."""
        return replace(self, weights=_weight_mark(self.tensors, read), sketch=take_sketch(self.modules, read))

    @property
    def shapes(self) -> str:
        """sha256 of all names and shapes, 64 hex digits: the same for every copy of a model.

        With `files:` in front where the names are those of the files: another's may be those of the loaded model.
        """
        mark = _shape_mark((name, tensor.shape) for name, tensor in self.tensors.items())
        return _FILES + mark if self.names_from_files else mark

    @property
    def parameters(self) -> int:
        """The number of weights, each tied one once."""
        return sum(tensor.numel for tensor in self.tensors.values())

    @property
    def vocabulary(self) -> int | None:
        """The number of entries of the input embedding, or None if it can't be told."""
        sizes = [m.in_features for name, m in self.modules.items() if m.kind == "embedding" and not _is_position(name)]
        return sizes[0] if sizes else None

    def identity(self, id: str | None = None, revision: str | None = None) -> BaseIdentity:
        """Return what a manifest records of this base, under the given name."""
        numbers = config_numbers(self.config)
        return BaseIdentity(id or self.id, revision or self.revision, self.shapes, self.weights, self.sketch, numbers)


def compare_identity(recorded: BaseIdentity, base: BaseIdentity | BaseSpec) -> BaseMatch:
    """Return how `base` relates to the recorded one.  Names don't count: a renamed copy is the same model."""
    ours = base.identity() if isinstance(base, BaseSpec) else base
    match = _compare_weights(recorded, ours)
    is_copy = match in (BaseMatch.SAME_WEIGHTS, BaseMatch.COPY)
    return BaseMatch.OTHER_FUNCTION if is_copy and differing(recorded.config, ours.config) else match


def _compare_weights(recorded: BaseIdentity, ours: BaseIdentity) -> BaseMatch:
    if recorded.shapes is None or ours.shapes is None:
        return BaseMatch.UNKNOWN
    if recorded.shapes.removeprefix(_FILES) != ours.shapes.removeprefix(_FILES):
        same_naming = recorded.shapes.startswith(_FILES) == ours.shapes.startswith(_FILES)
        return BaseMatch.OTHER_MODEL if same_naming else BaseMatch.UNKNOWN
    if recorded.weights is not None and ours.weights is not None:
        if recorded.weights == ours.weights:
            return BaseMatch.SAME_WEIGHTS
        if recorded.weights.partition("-")[2] == ours.weights.partition("-")[2] != "":
            return BaseMatch.OTHER_WEIGHTS  # stored alike, and some sample differs
    same = is_same_model(recorded.sketch, ours.sketch) if recorded.sketch and ours.sketch else None
    if same is None:
        return BaseMatch.UNKNOWN
    return BaseMatch.COPY if same else BaseMatch.OTHER_WEIGHTS


def _quantization(config: Mapping[str, Any]) -> str | None:
    """Return what config.json says of a quantized checkpoint."""
    settings = config.get("quantization_config")
    if not isinstance(settings, Mapping):
        return None
    if settings.get("quant_method", "bitsandbytes") != "bitsandbytes":
        return str(settings["quant_method"])[:40]
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        return str(settings.get("bnb_4bit_quant_type") or "fp4")[:40]
    return "int8"


def _modules(
    config: Mapping[str, Any], tensors: Mapping[str, TensorShape], plan: Blueprint | None
) -> Iterable[tuple[str, ModuleShape]]:
    """Yield the modules that the tensors make up.  A table knows Conv1D and experts; otherwise names decide."""
    for name, tensor in tensors.items():
        module, _, parameter = name.rpartition(".")
        if parameter != "weight" or len(tensor.shape) != 2:
            continue
        planned = plan.modules.get(module) if plan else None
        if plan is not None and planned is None and name in plan.tensors:
            continue  # a matrix that is no layer, e.g. a router
        if planned is not None and planned.kind == "conv1d":
            yield module, ModuleShape("conv1d", *tensor.shape)
        elif planned.kind == "embedding" if planned else module.rpartition(".")[2] in _EMBEDDING_NAMES:
            yield module, ModuleShape("embedding", *tensor.shape)
        else:
            yield module, ModuleShape("linear", tensor.shape[1], tensor.shape[0])
    if head_of(config) == "lm" and is_tied(config) and "lm_head.weight" not in tensors:
        yield from _tied_head(tensors, plan)


def _tied_head(tensors: Mapping[str, TensorShape], plan: Blueprint | None) -> Iterable[tuple[str, ModuleShape]]:
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        is_input = plan.modules[module].kind == "embedding" if plan and module in plan.modules else False
        if (is_input or module.rpartition(".")[2] in _EMBEDDING_NAMES) and not _is_position(module):
            yield "lm_head", ModuleShape("linear", tensor.shape[1], tensor.shape[0])
            return


def _missing(tensors: Mapping[str, TensorShape], plan: Blueprint | None) -> tuple[str, ...]:
    return tuple(sorted(plan.tensors.keys() - tensors.keys())) if plan else ()


def _is_position(module: str) -> bool:
    return module.rpartition(".")[2] in {"wpe", "embed_positions", "position_embeddings"}


def _shape_mark(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    digest = hashlib.sha256(b"lorahub shapes 1\n")
    for name, shape in sorted(shapes):
        digest.update(f"{name} {'x'.join(map(str, shape))}\n".encode())
    return digest.hexdigest()


def _weight_mark(tensors: Mapping[str, TensorShape], read: ReadBlock) -> str | None:
    """Hash up to 2,048 weights of every tensor, and what they are stored as: `<samples>-<formats>`.

    Tensors of experts are left out: files and models cut them differently.
    """
    samples, formats = hashlib.sha256(b"lorahub weights 1\n"), hashlib.sha256(b"lorahub formats 1\n")
    names = sorted(name for name in tensors if ".experts." not in name)
    for name in names:
        for start, size in _sample_places(tensors[name].numel):
            block = read(name, start, size)
            if block is None:
                return None
            samples.update(f"{name} {block.dtype} {start} {size}\n".encode())
            samples.update(block.data)
        formats.update(f"{name} {tensors[name].dtype}\n".encode())
    return f"{samples.hexdigest()}-{formats.hexdigest()[:16]}" if names else None


def _sample_places(numel: int) -> list[tuple[int, int]]:
    if numel <= _SAMPLE * _SAMPLES:
        return [(0, numel)]
    last = numel - _SAMPLE
    # Even, so that a sample of packed 4-bit codes begins with a whole byte.
    return [(last * index // (_SAMPLES - 1) // 2 * 2, _SAMPLE) for index in range(_SAMPLES)]
