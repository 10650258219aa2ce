"""What the runtime's tests share: tiny models of many architectures, adapters by PEFT, and comparisons."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from bitsandbytes import functional as bnb_functional
from bitsandbytes.nn import Linear4bit

from hub.runtime import load

# All widths are multiples of 64: bitsandbytes dequantizes others wrongly on CPUs with AVX-512, and it is the oracle.
SIZES = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
GPT = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}

CONFIGS: Mapping[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **HEADS, tie_word_embeddings=False),
    "tied-llama": lambda: transformers.LlamaConfig(**SIZES, **HEADS, tie_word_embeddings=True),
    "biased-llama": lambda: transformers.LlamaConfig(**SIZES, **HEADS, attention_bias=True, mlp_bias=True),
    "mistral": lambda: transformers.MistralConfig(**SIZES, **HEADS),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, num_attention_heads=4, num_key_value_heads=2),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, **HEADS),
    "gemma": lambda: transformers.GemmaConfig(**SIZES, **HEADS),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZES, **HEADS, sliding_window=32),
    "phi": lambda: transformers.PhiConfig(**SIZES, num_attention_heads=4),
    "gpt2": lambda: transformers.GPT2Config(**GPT),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=96, hidden_size=64, ffn_dim=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, word_embed_proj_dim=64,
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=96, hidden_size=64, n_layer=2, n_head=4),
}  # fmt: skip

TARGETS: Mapping[str, list[str]] = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "opt": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "bloom": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
}
TOKENS = torch.tensor([[5, 17, 3, 88, 42, 7, 7, 61], [9, 1, 30, 12, 95, 2, 64, 33]])


def targets_of(kind: str) -> list[str]:
    return TARGETS.get(kind, TARGETS["llama"])


def make_base(kind: str, path: Path) -> None:
    """Write a tiny model with random weights, always the same ones."""
    torch.manual_seed(len(kind))
    config = CONFIGS[kind]()
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms and biases: not all ones and zeros
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embed" not in name and "wte" not in name:
                parameter.mul_(4)  # a tiny model whose layers matter
    model.save_pretrained(path)


def open_base(path: Path, quantize: str | None = None) -> Any:
    """Load a base as transformers does, for PEFT to wrap."""
    options: dict[str, Any] = {}
    if quantize == "nf4":
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options)
    return never_packs(model).eval()


def never_packs(model: Any) -> Any:
    """Let 4-bit layers compute in float32 on every CPU; bitsandbytes packs them where there is AVX512-BF16."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def pack(model: Any) -> int:
    """Do to every 4-bit layer what its first forward does on a CPU with AVX512-BF16, on any CPU."""
    count = 0
    for module in model.modules():
        if isinstance(module, Linear4bit) and module.out_features % 32 == module.in_features % 64 == 0:
            packed = bnb_functional._convert_weight_packed_for_cpu(module.weight.data, module.weight.quant_state)
            module.weight.data, module.weight.quant_state = packed
            count += 1
    return count


def write_adapter(
    base: Path, folder: Path, *, seed: int = 1, size: float = 1.0, dtype: torch.dtype = torch.float32, **config: Any
) -> Path:
    """Let PEFT make an adapter for `base` with random weights in every tensor, and save it."""
    torch.manual_seed(seed)
    config.setdefault("task_type", "CAUSAL_LM")
    model = peft.get_peft_model(open_base(base), peft.LoraConfig(**config))
    trained = ("lora_", "modules_to_save", "trainable_tokens_delta", "bias")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and any(part in name for part in trained):
                _randomize(name, parameter, size)
    model.to(dtype) if dtype != torch.float32 else None
    model.save_pretrained(folder)
    return folder


def _randomize(name: str, parameter: torch.Tensor, size: float) -> None:
    if "magnitude" in name:
        parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    elif "lora_" in name:
        parameter.copy_(torch.randn_like(parameter) * 0.2 * size)
    else:
        parameter.add_(torch.randn_like(parameter) * 0.1 * size)


def peft_logits(base: Path, folder: Path, quantize: str | None = None, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    model = peft.PeftModel.from_pretrained(open_base(base, quantize), folder).eval()
    with torch.no_grad():
        return model(input_ids=tokens).logits


def logits(model: Any, tokens: torch.Tensor = TOKENS, **kwargs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, **kwargs).logits


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def load_model(base: Path, *refs: Any, quantize: str | None = None, **kwargs: Any) -> Any:
    return load(base, *refs, quantize=quantize, device="cpu", **kwargs)


def in_thread(do: Callable[[], Any]) -> Any:
    """Run `do` in a thread of its own, to its end; return what it returned or raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(do())
        except Exception as error:  # noqa: BLE001  # the caller looks at it
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert outcome, "it waits for the thread that called it"
    return outcome[0]


class Overtaken:
    """A lock before which another thread is quicker, once: it does `rival`, to its end, and then this one gets it.

    Only of the thread that made this, and only where it takes the lock for more than looking an adapter up.
    """

    def __init__(self, slots: Any, rival: Callable[[], Any]) -> None:
        self.result: Any = None
        self._lock, self._get, self._rival = slots.lock, slots.get, rival
        self._mine, self._looks, self._is_done = threading.get_ident(), False, False
        slots.lock, slots.get = self, self._look

    def _look(self, ref: str) -> Any:
        before, self._looks = self._looks, True
        try:
            return self._get(ref)
        finally:
            self._looks = before

    def __enter__(self) -> None:
        if threading.get_ident() == self._mine and not self._looks and not self._is_done:
            self._is_done = True
            self.result = in_thread(self._rival)
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
