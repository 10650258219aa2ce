"""A tiny llama as a GGUF file, with random weights, written by the format's own library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from tokenizers import pre_tokenizers

HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD = 64, 96, 2, 4, 2, 16
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"


def write_tiny_gguf(path: Path, architecture: str = "llama") -> Path:
    """Matrices are Q4_1 and Q8_0, as in the real file; norms are F32."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*SPECIAL, *alphabet, "he", "ll", "hell"]
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(words) - len(SPECIAL)))
    writer.add_token_merges(["h e", "l l", "he ll"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    _add_tensors(writer, len(words))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: GGUFWriter, vocabulary: int) -> None:
    random = np.random.default_rng(0)

    def add(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
        values = (random.standard_normal(shape) * 0.1).astype(np.float32)
        packed = values if kind is GGMLQuantizationType.F32 else quantize(values, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)

    q4, q8, f32 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32
    add("token_embd.weight", (vocabulary, HIDDEN), q8)
    add("output_norm.weight", (HIDDEN,), f32)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add(f"{block}.attn_q.weight", (HEADS * HEAD, HIDDEN), q4)
        add(f"{block}.attn_k.weight", (KEY_HEADS * HEAD, HIDDEN), q4)
        add(f"{block}.attn_v.weight", (KEY_HEADS * HEAD, HIDDEN), q4)
        add(f"{block}.attn_output.weight", (HIDDEN, HEADS * HEAD), q4)
        add(f"{block}.ffn_gate.weight", (INNER, HIDDEN), q4)
        add(f"{block}.ffn_up.weight", (INNER, HIDDEN), q4)
        add(f"{block}.ffn_down.weight", (HIDDEN, INNER), q4)
        add(f"{block}.attn_norm.weight", (HIDDEN,), f32)
        add(f"{block}.ffn_norm.weight", (HIDDEN,), f32)
