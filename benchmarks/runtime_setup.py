"""What the runtime's benchmark runs on: a real base, adapters that PEFT wrote, and a real registry's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

import hub
from hub.runtime import Model

RANK = 16
MODELS = ("135m", "1.1b")
"""SmolLM2-135M-Instruct, and random weights in the shape of a 1.1B Llama."""
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = 17


@dataclass(frozen=True)
class Setup:
    """folders: of the adapters, all of one shape.  refs: the same ones in the registry's cache."""

    model: str
    base: Path
    folders: list[Path]
    refs: list[str]
    dora: Path | None


def fastest_dtype() -> torch.dtype:
    """Return the type in which bitsandbytes is fastest here: bfloat16 where the CPU multiplies it, and packs for it."""
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def open_base(base: Path, dtype: torch.dtype | None = None) -> Any:
    """Open the base as a PEFT user does: transformers quantizes it, bitsandbytes multiplies, at its fastest."""
    dtype = dtype or fastest_dtype()
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype, quantization_config=settings).eval()


def open_peft(base: Path, folders: list[Path]) -> PeftModel:
    """Open the base with adapters named a0, a1, …"""
    model = PeftModel.from_pretrained(open_base(base), folders[0], adapter_name="a0").eval()
    for number, folder in enumerate(folders[1:], start=1):
        model.load_adapter(folder, adapter_name=f"a{number}")
    return model


def open_ours(base: Path, *refs: str | Path, slots: int = ADAPTERS, compute: str | None = None) -> Model:
    return hub.load(base, *refs, device="cpu", slots=slots, compute=compute)


def random_1_1b(folder: Path) -> Path:
    """Write a Llama of TinyLlama's shape with random weights, always the same ones, in bfloat16."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2_048,
        intermediate_size=5_632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@contextmanager
def prepared(root: Path, model: str) -> Iterator[Setup]:
    """Yield what the measures of `model` need."""
    if model == "135m":
        with prepared_135m(root) as setup:
            yield setup
        return
    base = random_1_1b(root / "base")
    os.environ["LORAHUB_CACHE"] = str(root / "cache")
    folders = _write_adapters(base, root, count=4)
    yield Setup(model, base, folders, [str(folder) for folder in folders], None)


@contextmanager
def prepared_135m(root: Path) -> Iterator[Setup]:
    """Yield the setup; the registry that fills the cache is stopped before anything is measured."""
    from hub.api import client_settings
    from hub.demo.smollm2 import ensure_smollm2
    from tests.support.server import running_server

    base = ensure_smollm2(client_settings().cache)
    folders = _write_adapters(base, root)
    dora = _write(base, root / "dora", use_dora=True)
    os.environ["LORAHUB_CACHE"] = str(root / "cache")
    with running_server(root / "server") as server:
        os.environ.update({name: server.env[name] for name in ("LORAHUB_ENDPOINT", "LORAHUB_TOKEN")})
        refs = [str(hub.push(folder, f"bench/{folder.name}", base=base).ref) for folder in folders]
        for ref in refs:
            hub.pull(ref)
    os.environ["LORAHUB_OFFLINE"] = "1"
    yield Setup("135m", base, folders, refs, dora)


def _write_adapters(base: Path, root: Path, count: int = ADAPTERS) -> list[Path]:
    """Let PEFT write one adapter, and make others of other weights from it."""
    first = _write(base, root / "a0")
    folders = [first]
    state = load_file(first / "adapter_model.safetensors")
    for number in range(1, count):
        torch.manual_seed(number)
        folder = root / f"a{number}"
        folder.mkdir()
        (folder / "adapter_config.json").write_bytes((first / "adapter_config.json").read_bytes())
        other = {name: torch.randn_like(value) * value.std() for name, value in state.items()}
        save_file(other, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        folders.append(folder)
    return folders


def _write(base: Path, folder: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM", **settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.01)
    model.save_pretrained(folder)
    return folder
