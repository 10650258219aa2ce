"""One adapter's config and tensors, checked against each other: everything that can be known without its weights."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from hub.adapter.config import LoraConfig
from hub.adapter.keys import AdapterTensor, adapter_names, is_saved_module, parse_keys
from hub.errors import InvalidAdapter
from hub.manifest import Manifest, TensorEntry

FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
MAX_PATTERN_STEPS = 300_000_000
"""Of `re`, for all modules of an adapter together, counted at the worst: hundreds of millions take seconds."""

_EMBEDDINGS = frozenset({"embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out", "shared"})
LORA_KINDS = frozenset({"lora_A", "lora_B", "lora_bias", "embedding_A", "embedding_B", "magnitude"})
"""What PEFT renames when an architecture's names have changed; whole modules and tokens it leaves as they are."""
_PAIRS = (("lora_A", "lora_B"), ("embedding_A", "embedding_B"))


@dataclass(frozen=True, slots=True)
class AdapterContent:
    """`tensors` are sorted by name; `parts` says what each of them is, in the same order."""

    config: LoraConfig
    tensors: tuple[TensorEntry, ...]
    parts: tuple[AdapterTensor, ...] = field(repr=False)

    @classmethod
    def build(cls, config: LoraConfig, tensors: Iterable[TensorEntry]) -> AdapterContent:
        """Raise InvalidAdapter for a tensor that is no part of a LoRA adapter."""
        ordered = tuple(sorted(tensors))
        names = (tensor.name for tensor in ordered)
        parts = parse_keys(names, bias=config.bias, modules_to_save=config.modules_to_save)
        _check_pattern_cost(config, {part.module for part in parts})
        return cls(config, ordered, tuple(parts))

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> AdapterContent:
        """Return what a manifest says of its adapter.  Raises InvalidAdapter."""
        return cls.build(LoraConfig.from_json(manifest.config), manifest.tensors)

    def by_module(self) -> dict[str, dict[str, TensorEntry]]:
        """Return module -> kind -> tensor.  A base parameter that is replaced has the kind `kind.parameter`."""
        modules: dict[str, dict[str, TensorEntry]] = defaultdict(dict)
        for tensor, part in self.used():
            key = f"{part.kind}.{part.parameter}" if part.parameter else part.kind
            modules[part.module][key] = tensor
        return dict(modules)

    def used(self) -> Iterator[tuple[TensorEntry, AdapterTensor]]:
        """Yield every tensor that the adapter computes with, and what it is."""
        for tensor, part in zip(self.tensors, self.parts, strict=True):
            if part.kind != "unused":
                yield tensor, part

    def placed(self, modules: Container[str], rename: Callable[[str], str] | None) -> AdapterContent:
        """Return this adapter with the names that a base's modules have now, for those that it calls otherwise."""
        if rename is None:
            return self
        return replace(self, parts=tuple(_renamed(part, modules, rename) for part in self.parts))

    @property
    def dtype(self) -> str:
        """The dtype that most of the weights have, e.g. `F32`."""
        sizes = Counter[str]()
        for tensor in self.tensors:
            sizes[tensor.dtype] += prod(tensor.shape)
        return sizes.most_common(1)[0][0] if sizes else ""

    @property
    def parameters(self) -> int:
        """The number of weights in all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The last parts of the adapted modules' names, e.g. `("k_proj", "q_proj")`."""
        kinds = {"lora_A", "embedding_A"}
        return tuple(sorted({part.module.rpartition(".")[2] for part in self.parts if part.kind in kinds}))


def _renamed(part: AdapterTensor, modules: Container[str], rename: Callable[[str], str]) -> AdapterTensor:
    if part.module in modules or part.kind not in LORA_KINDS:
        return part
    name = rename(part.module)
    return replace(part, module=name) if name in modules else part


def _check_pattern_cost(config: LoraConfig, modules: Iterable[str]) -> None:
    """Refuse patterns and names that were made to keep `re` busy, before any of them is matched."""
    if not config.rank_pattern and not config.alpha_pattern:
        return
    steps = 0
    for module in modules:
        steps += config.pattern_steps(module)
        if steps > MAX_PATTERN_STEPS:
            raise InvalidAdapter(
                "rank_pattern and alpha_pattern would take too long on this many modules. Write module names as keys.",
                field="rank_pattern",
            )


@dataclass(frozen=True, slots=True)
class Fault:
    """A contradiction between config and tensors.  code: dtype, rank, pair, dora, bias, tokens, saved or empty."""

    code: str
    module: str
    text: str

    def __str__(self) -> str:
        return f"{self.module} {self.text}" if self.module else self.text


def check_content(content: AdapterContent) -> None:
    """Raise InvalidAdapter, which names the modules, unless config and tensors are one whole adapter."""
    faults = [str(fault) for fault in find_faults(content)]
    if faults:
        raise InvalidAdapter(
            f"The weights do not fit adapter_config.json: {summarize(faults)}. Save the adapter again with PEFT.",
            faults=faults[:20],
        )


def check_publishable(content: AdapterContent) -> None:
    """`check_content`, and raise InvalidAdapter for a field that no published adapter may set."""
    check_allowed(content.config)
    _refuse_raw_names(content)
    check_content(content)


def _refuse_raw_names(content: AdapterContent) -> None:
    names = adapter_names(tensor.name for tensor in content.tensors if ".lora_" in tensor.name)
    if names:
        raise InvalidAdapter(
            f"The tensors have the adapter's name ({', '.join(sorted(names)[:3])}) in theirs, as in a raw state dict, "
            "and PEFT would leave them out without a word. Save the adapter with PEFT: model.save_pretrained(folder)."
        )


def check_allowed(config: LoraConfig) -> None:
    """Raise InvalidAdapter for a field that no published adapter may set."""
    forbidden = config.forbidden()
    if forbidden:
        reasons = "; ".join(f"{item.name}: {item.why}" for item in forbidden)
        raise InvalidAdapter(
            f"adapter_config.json sets what no published adapter may: {reasons}.", fields=[f.name for f in forbidden]
        )


def summarize(items: Sequence[str], most: int = 3) -> str:
    """Return the first few items, then a count of the others."""
    rest = len(items) - most
    shown = "; ".join(items[:most])
    return f"{shown}; and {rest:,} more" if rest > 0 else shown


def find_faults(content: AdapterContent) -> list[Fault]:
    """Return everything in which config and tensors contradict each other, each fault naming its module."""
    if not content.tensors:
        return [Fault("empty", "", "there are no weights")]
    modules = content.by_module()
    faults = list(_dtype_faults(content))
    for module, tensors in modules.items():
        faults.extend(_pair_faults(module, tensors, content.config))
        faults.extend(_extra_faults(module, tensors, content.config))
    faults.extend(_token_faults(modules, content.config))
    faults.extend(_whole_module_faults(content))
    return faults


def _dtype_faults(content: AdapterContent) -> Iterator[Fault]:
    for tensor, part in zip(content.tensors, content.parts, strict=True):
        if tensor.dtype not in FLOAT_DTYPES:
            yield Fault("dtype", part.module, f"has weights of the dtype {tensor.dtype}")


def _pair_faults(module: str, tensors: Mapping[str, TensorEntry], config: LoraConfig) -> Iterator[Fault]:
    for first, second in _PAIRS:
        a, b = tensors.get(first), tensors.get(second)
        if a is None and b is None:
            continue
        if a is None or b is None:
            yield Fault("pair", module, f"has no {first if a is None else second}")
        elif len(a.shape) < 2 or len(b.shape) < 2 or 0 in a.shape + b.shape:
            yield Fault("pair", module, f"has weights of the shapes {list(a.shape)} and {list(b.shape)}: no product")
        elif a.shape[0] != config.rank_for(module) or not _takes(b, a.shape[0]):
            ranks = f"has rank {a.shape[0]} in A and {b.shape[1]} in B"
            yield Fault("rank", module, f"{ranks}, but the config says {config.rank_for(module)}")


def _takes(b: TensorEntry, rank: int) -> bool:
    """Whether B takes what an A of that rank gives: a convolution in groups takes the rank by parts."""
    return b.shape[1] == rank or (len(b.shape) > 2 and rank % b.shape[1] == 0)


def _extra_faults(module: str, tensors: Mapping[str, TensorEntry], config: LoraConfig) -> Iterator[Fault]:
    is_pair, is_linear = "lora_A" in tensors or "embedding_A" in tensors, "lora_A" in tensors
    if ("magnitude" in tensors) != (config.use_dora and is_pair):
        has = "a" if "magnitude" in tensors else "no"
        yield Fault("dora", module, f"has {has} DoRA magnitude, but use_dora is {config.use_dora}")
    if ("lora_bias" in tensors) != (config.lora_bias and is_linear):
        has = "a" if "lora_bias" in tensors else "no"
        yield Fault("bias", module, f"has {has} bias of B, but lora_bias is {config.lora_bias}")
    if config.bias == "none" and "bias.bias" in tensors:
        yield Fault("bias", module, "has a trained bias, but the config's bias is 'none'")
    if "base_layer.weight" in tensors and not is_pair:
        yield Fault("pair", module, "has a copy of its base weight, but no update of it")


def _token_faults(modules: Mapping[str, Mapping[str, TensorEntry]], config: LoraConfig) -> Iterator[Fault]:
    deltas = {name: tensors["trainable_tokens"] for name, tensors in modules.items() if "trainable_tokens" in tensors}
    if config.trainable_token_indices and not deltas:
        yield Fault("tokens", "", "trainable_token_indices is set, but there are no trained tokens")
    for module, delta in deltas.items():
        indices = token_indices_for(config, module)
        if indices is None:
            yield Fault("tokens", module, "has trained tokens, but trainable_token_indices does not name it")
        elif len(delta.shape) != 2 or delta.shape[0] != len(indices):
            yield Fault("tokens", module, f"has trained tokens {list(delta.shape)} for {len(indices)} token ids")


def token_indices_for(config: LoraConfig, module: str) -> tuple[int, ...] | None:
    """Return the token ids of the rows of `module`'s delta, or None if the config names none for it."""
    named = config.trainable_token_indices
    for name, indices in named.items():
        if module.endswith(name):
            return indices
    # A bare list means the input embedding, whatever the model calls it.
    is_bare_list = isinstance(config.raw.get("trainable_token_indices"), list)
    return next(iter(named.values())) if is_bare_list and named else None


def _whole_module_faults(content: AdapterContent) -> Iterator[Fault]:
    wanted = content.config.modules_to_save
    whole = [part for part in content.parts if part.kind == "modules_to_save"]
    if wanted and not any(is_saved_module(part.module, wanted) for part in whole):
        yield Fault("saved", "", f"modules_to_save names {', '.join(wanted[:5])}, but there are no such weights")
    for part in whole:
        # PEFT saves the embeddings of a resized vocabulary without being asked.
        if not is_saved_module(part.module, wanted) and part.module.rpartition(".")[2] not in _EMBEDDINGS:
            yield Fault("saved", part.module, "is stored whole, but modules_to_save does not name it")
