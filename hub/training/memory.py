"""How much memory training takes, by formula, before anything is loaded.

    print(hub.plan("./base-model", rank=16, quantize="nf4", batch_size=4, sequence_length=512))

Counted are the tensors that are alive at the end of a step's forward, the largest moment: the base, the adapter with
its gradients and AdamW's two moments (fp32 each), what autograd keeps of every layer, and the logits with their
gradient.  Not counted: Python and its libraries (about 0.5 GB), the allocator's slack, CUDA's context.  A test compares
each part with a real training step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypedDict, Unpack

from hub.base.spec import BaseSpec, ModuleShape
from hub.client.bases import open_base
from hub.errors import InvalidRequest
from hub.training.loss import MAX_PACKED_TOKENS
from hub.training.targets import DEFAULT_TARGETS, resolve_targets

_FP32 = 4
_NF4_BLOCK = 64
_NF4_BLOCKS_PER_SCALE = 256
_NF4_TABLES = _FP32 * (16 + 256 + 1)
"""Per layer: the 4-bit code, the code of the 8-bit scales, and their mean."""

COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of each part.  `str(plan)` is a table."""

    parameters: int
    trainable: int
    base: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.base + self.adapter + self.gradients + self.optimizer + self.activations + self.logits

    def parts(self) -> dict[str, int]:
        names = ("base", "adapter", "gradients", "optimizer", "activations", "logits", "total")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        lines = [f"{name:<12}{size / 1e6:>12,.1f} MB" for name, size in self.parts().items()]
        return "\n".join([f"{self.trainable:,} of {self.parameters:,} parameters are trained", *lines])


class PlanSettings(TypedDict, total=False):
    """How to train, as far as memory depends on it."""

    rank: int
    target_modules: Sequence[str]
    quantize: str | None
    batch_size: int
    sequence_length: int
    completion_length: int | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class _Step:
    """The same, with what is taken where nothing is said."""

    rank: int = 8
    target_modules: Sequence[str] = DEFAULT_TARGETS
    quantize: str | None = None
    batch_size: int = 8
    sequence_length: int = 512
    completion_length: int | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What the activations of a decoder depend on.  Widths are in numbers, of one token."""

    hidden: int
    attention: int
    head: int
    heads: int
    inner: int
    layers: int
    vocabulary: int

    @classmethod
    def of(cls, spec: BaseSpec) -> _Sizes:
        """Raises InvalidRequest when the config doesn't say."""
        config = spec.config
        hidden = _number(config, "hidden_size", "n_embd", "d_model")
        heads = _number(config, "num_attention_heads", "n_head")
        head = int(config.get("head_dim") or hidden // heads)
        return cls(
            hidden=hidden,
            attention=heads * head,
            head=head,
            heads=heads,
            inner=_number({"inner": 4 * hidden} | dict(config), "intermediate_size", "ffn_dim", "n_inner", "inner"),
            layers=_number(config, "num_hidden_layers", "n_layer"),
            vocabulary=_number(config, "vocab_size"),
        )


def plan(
    base: str | os.PathLike[str] | BaseSpec,
    **settings: Unpack[PlanSettings],
) -> MemoryPlan:
    """Return what `hub.train` would take with these settings, from the base's headers alone.

    base: a folder, a config.json, a Hugging Face id, or a BaseSpec.
    settings: rank 8, target_modules q/k/v/o, quantize None or "nf4", batch_size 8; sequence_length 512 and
        completion_length, tokens of the longest example and how many of them are learned (all by default);
        dtype "bfloat16" or "float32", by default what training chooses on this machine.
    Activations follow the layers of llama-like decoders; for other architectures they are an estimate.
    Raises BaseNotFound, and InvalidRequest for modules that the base doesn't have.
    """
    spec = base if isinstance(base, BaseSpec) else open_base(base)
    step = _Step(**settings)
    compute = _compute_bytes(step.dtype)
    targets = _targets(spec, tuple(step.target_modules))
    trainable = sum(step.rank * (shape.in_features + shape.out_features) for _, shape in targets)
    learned = step.batch_size * (step.completion_length or step.sequence_length)
    sizes = _Sizes.of(spec)
    return MemoryPlan(
        parameters=spec.parameters + trainable,
        trainable=trainable,
        base=_base_bytes(spec, step.quantize, compute),
        adapter=trainable * _FP32,
        gradients=trainable * _FP32,
        optimizer=2 * trainable * _FP32,
        activations=_activation_bytes(sizes, targets, step, compute),
        logits=2 * learned * sizes.vocabulary * _FP32,
    )


def _compute_bytes(dtype: str | None) -> int:
    if dtype is None:
        from hub.training.base import choose_device, training_dtype

        return training_dtype(choose_device("auto")).itemsize
    if dtype not in COMPUTE_BYTES:
        raise InvalidRequest(f"dtype is {dtype!r}; training computes in {' or '.join(COMPUTE_BYTES)}.")
    return COMPUTE_BYTES[dtype]


def _targets(spec: BaseSpec, names: tuple[str, ...]) -> list[tuple[str, ModuleShape]]:
    endings = tuple(f".{name}" for name in resolve_targets(names, spec.modules))
    return [(module, shape) for module, shape in spec.modules.items() if f".{module}".endswith(endings)]


def _matrices(spec: BaseSpec) -> list[str]:
    """Return the names of the modules that a 4-bit base packs, and the output layer."""
    return [module for module, shape in spec.modules.items() if shape.kind != "embedding"]


def _base_bytes(spec: BaseSpec, quantize: str | None, compute: int) -> int:
    """Return the bytes of the loaded base: dense in the compute dtype, or linear layers in NF4 and the rest in fp32."""
    if quantize is None:
        return sum(tensor.numel for tensor in spec.tensors.values()) * compute
    if quantize != "nf4":
        raise InvalidRequest(f"quantize is {quantize!r}; training takes 'nf4' or None.")
    packed = {f"{name}.weight" for name, shape in spec.modules.items() if shape.kind != "embedding"} - {
        "lm_head.weight"
    }
    rest = sum(tensor.numel for name, tensor in spec.tensors.items() if name not in packed) * _FP32
    return rest + sum(_nf4_bytes(tensor.numel) for name, tensor in spec.tensors.items() if name in packed)


def _nf4_bytes(numel: int) -> int:
    """Return the bytes of one linear layer in NF4 with double quantization, blocks of 64 and of 256."""
    blocks = ceil(numel / _NF4_BLOCK)
    return ceil(numel / 2) + blocks + _FP32 * ceil(blocks / _NF4_BLOCKS_PER_SCALE) + _NF4_TABLES


def _activation_bytes(sizes: _Sizes, targets: Sequence[tuple[str, ModuleShape]], step: _Step, compute: int) -> int:
    """Return what autograd keeps of one forward: see the parts below, each per token and layer."""
    rank, rows, length = step.rank, step.batch_size, step.sequence_length
    norms = 2 * (sizes.hidden + 1) * _FP32
    attention = 4 * sizes.attention * compute + sizes.heads * _FP32  # q, k, v, output; the sums of the softmax
    inner = 3 * sizes.inner * compute  # gate, its activation, up
    per_token = sizes.layers * (norms + attention + inner) + 2 * sizes.head * compute
    adapters = sum(rank * _FP32 for _ in targets) + sum(_kept_inputs(targets, sizes, compute)) * _FP32
    tokens = rows * length
    mask = tokens**2 if tokens <= MAX_PACKED_TOKENS else rows * length**2
    return tokens * (per_token + adapters) + mask * compute


def _kept_inputs(targets: Sequence[tuple[str, ModuleShape]], sizes: _Sizes, compute: int) -> Iterator[int]:
    """Yield the widths of the inputs that the A matrices keep, in fp32.

    In fp32, q/k/v read one tensor, as gate/up do, and the output projection's is kept by attention already; a narrower
    dtype is cast once for each module.
    """
    if compute != _FP32:
        yield from (shape.in_features for _, shape in targets)
        return
    for module, shape in targets:
        parent, _, name = module.rpartition(".")
        readers = {other.rpartition(".")[2] for other, _ in targets if other.rpartition(".")[0] == parent}
        first = {"k_proj": {"q_proj"}, "v_proj": {"q_proj", "k_proj"}, "up_proj": {"gate_proj"}}
        if name != "o_proj" and not first.get(name, set()) & readers:
            yield shape.in_features


def _number(config: object, *names: str) -> int:
    for name in names:
        value = config.get(name) if hasattr(config, "get") else None
        if isinstance(value, int) and value > 0:
            return value
    raise InvalidRequest(f"The base's config.json doesn't say {names[0]}: its activations can't be planned.")
