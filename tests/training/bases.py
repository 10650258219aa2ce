"""Tiny random bases with a real byte-level tokenizer and a chat template, written as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.2,
}


def make_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """One token per byte, and four special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: at for at, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=CHAT_TEMPLATE if chat else None,
    )


def make_model(model_type: str = "llama", seed: int = 0, **sizes: Any) -> Any:
    torch.manual_seed(seed)
    vocabulary = {"vocab_size": 260, "eos_token_id": 256, "pad_token_id": 256, "bos_token_id": None}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(SIZES | vocabulary | sizes)))


def write_base(folder: Path, model_type: str = "llama", seed: int = 0, **sizes: Any) -> Path:
    make_model(model_type, seed, **sizes).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
