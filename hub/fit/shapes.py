"""Compare an adapter's tensors with a base's modules, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hub.adapter.content import AdapterContent, token_indices_for
from hub.base.spec import BaseSpec, ModuleShape, TensorShape
from hub.fit.placement import ALL_LINEAR, targeted
from hub.manifest import TensorEntry

_HEADS = frozenset({"score", "classifier", "qa_outputs"})
_PAIR_KINDS = ("lora_A", "lora_B", "embedding_A", "embedding_B")


@dataclass(frozen=True, slots=True)
class Misfit:
    """One tensor that does not fit.  code: modules, shapes, vocabulary, head or unsupported."""

    code: str
    module: str
    detail: str = ""


def find_misfits(content: AdapterContent, base: BaseSpec) -> list[Misfit]:
    """Return every tensor of the adapter that has no place in the base, or another shape there."""
    misfits: list[Misfit] = []
    for module, tensors in content.by_module().items():
        misfits.extend(_pair_misfits(module, tensors, base))
        misfits.extend(_parameter_misfits(module, tensors, base))
        misfits.extend(_token_misfits(module, tensors, content, base))
    return misfits


def find_untrained(content: AdapterContent, base: BaseSpec) -> Iterator[str]:
    """Yield the modules of the base that the config targets and the adapter has no update of.

    On the base that it was trained on there are none: PEFT would have made the tensors.
    """
    if content.config.target_modules in (None, ALL_LINEAR):
        return  # PEFT writes out what "all-linear" stood for; a file that says it leaves it to the tensors
    trained = {part.module for part in content.parts if part.kind in {"lora_A", "embedding_A"}}
    if not trained:
        return
    yield from (name for name in targeted(content.config, base.modules) if name not in trained)


def _pair_misfits(module: str, tensors: Mapping[str, TensorEntry], base: BaseSpec) -> Iterator[Misfit]:
    present = [kind for kind in (*_PAIR_KINDS, "magnitude", "lora_bias") if kind in tensors]
    if not present:
        return
    shape = base.modules.get(module)
    if shape is None:
        is_there = any(name.startswith(f"{module}.") for name in base.tensors)
        yield Misfit("unsupported", module, "no linear layer or embedding") if is_there else Misfit("modules", module)
        return
    for kind in present:
        if shape.kind == "conv":
            yield from _conv_misfit(module, kind, tensors, shape)
        else:
            yield from _pair_misfit(module, kind, tensors[kind], shape)


def _pair_misfit(module: str, kind: str, tensor: TensorEntry, shape: ModuleShape) -> Iterator[Misfit]:
    if kind in _PAIR_KINDS and len(tensor.shape) != 2:
        yield Misfit("unsupported", module, f"{kind} has {len(tensor.shape)} dimensions")
        return
    if (shape.kind == "embedding") != kind.startswith("embedding") and kind != "magnitude":
        yield Misfit("shapes", module, f"{kind} on a module that is {_article(shape.kind)} in the base")
        return
    side, wanted = _side(kind, shape)
    has = tensor.shape[side]
    if has != wanted:
        is_vocabulary = _is_vocabulary_side(module, kind, shape)
        yield Misfit("vocabulary" if is_vocabulary else "shapes", module, f"{kind} has {has:,}, the base {wanted:,}")


def _conv_misfit(module: str, kind: str, tensors: Mapping[str, TensorEntry], shape: ModuleShape) -> Iterator[Misfit]:
    """A is a convolution of the base's kernel to rank channels, B one of kernel 1 back: PEFT's layout."""
    if kind == "magnitude":
        yield Misfit("unsupported", module, "DoRA of a convolution")
        return
    rank = tensors["lora_A"].shape[0] if "lora_A" in tensors else 0
    wanted = {
        "lora_A": (rank, shape.in_features, *shape.kernel),
        "lora_B": (shape.out_features, rank // shape.groups, *(1,) * len(shape.kernel)),
        "lora_bias": (shape.out_features,),
    }.get(kind)
    if tensors[kind].shape != wanted:
        yield Misfit("shapes", module, f"{kind} is {list(tensors[kind].shape)}, the base's kernel {list(shape.kernel)}")


def _side(kind: str, shape: ModuleShape) -> tuple[int, int]:
    """Return which side of a tensor of that kind must equal which size of the module."""
    if kind in {"lora_A", "embedding_A"}:
        return 1, shape.in_features
    return 0, shape.out_features


def _is_vocabulary_side(module: str, kind: str, shape: ModuleShape) -> bool:
    if shape.kind == "embedding":
        return kind == "embedding_A"
    return module.rpartition(".")[2] in {"lm_head", "embed_out"} and kind != "lora_A"


def _parameter_misfits(module: str, tensors: Mapping[str, TensorEntry], base: BaseSpec) -> Iterator[Misfit]:
    """Compare the base's own parameters that the adapter replaces: biases, and modules stored whole."""
    for key, tensor in tensors.items():
        kind, _, parameter = key.partition(".")
        if not parameter:
            continue
        own = _own_parameter(module, parameter, base)
        if own is None:
            is_head = kind == "modules_to_save" and module.partition(".")[0] in _HEADS
            yield Misfit("head" if is_head else "modules", module, "" if is_head else f"there is no {parameter}")
        elif own.shape != tensor.shape:
            differs_in_entries = len(own.shape) == 2 and own.shape[1:] == tensor.shape[1:]
            code = "vocabulary" if differs_in_entries and _holds_vocabulary(module, base) else "shapes"
            yield Misfit(code, module, f"{parameter} is {list(tensor.shape)}, the base's {list(own.shape)}")


def _own_parameter(module: str, parameter: str, base: BaseSpec) -> TensorShape | None:
    name = f"{module}.{parameter}"
    own = base.tensors.get(name) or base.tied.get(name)
    tied = base.modules.get(module)
    if own is None and parameter == "weight" and tied is not None:
        return TensorShape((tied.out_features, tied.in_features), "")
    return own


def _holds_vocabulary(module: str, base: BaseSpec) -> bool:
    shape = base.modules.get(module)
    return shape is not None and (shape.kind == "embedding" or module.rpartition(".")[2] in {"lm_head", "embed_out"})


def _token_misfits(
    module: str, tensors: Mapping[str, TensorEntry], content: AdapterContent, base: BaseSpec
) -> Iterator[Misfit]:
    delta = tensors.get("trainable_tokens")
    if delta is None or len(delta.shape) != 2:
        return
    shape = base.modules.get(module)
    if shape is None:
        yield Misfit("modules", module)
        return
    entries, width = (
        (shape.in_features, shape.out_features)
        if shape.kind == "embedding"
        else (shape.out_features, shape.in_features)
    )
    if delta.shape[1] != width:
        yield Misfit("shapes", module, f"trained tokens have {delta.shape[1]:,} weights each, the base {width:,}")
    beyond = [index for index in token_indices_for(content.config, module) or () if index >= entries]
    if beyond:
        yield Misfit("vocabulary", module, f"token {max(beyond):,} is trained, the base has {entries:,}")


def _article(kind: str) -> str:
    return {"linear": "a linear layer", "conv1d": "a Conv1D", "embedding": "an embedding", "conv": "a convolution"}[
        kind
    ]
