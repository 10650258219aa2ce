"""The base that training starts from: how it is named, recognised and loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.base.spec import BaseSpec
from hub.client.bases import open_base
from hub.errors import InvalidRequest
from hub.manifest import BaseIdentity

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TrainingBase:
    """A base by the place to load it from, its headers, and the identity that an adapter of it records."""

    source: str
    spec: BaseSpec
    identity: BaseIdentity

    @classmethod
    def open(cls, base: str | os.PathLike[str], base_id: str | None = None) -> TrainingBase:
        """Read the headers of a folder or a Hugging Face id.  Raises BaseNotFound, InvalidRequest.

        base_id: what to call it; else an id is its own name, and a folder's name is the name of its last part.
        """
        spec = open_base(base)
        folder = Path(base).expanduser()
        if folder.is_dir():
            return cls(str(folder), spec, spec.identity(base_id or folder.resolve().name))
        if spec.id is None:
            raise InvalidRequest(f"{folder} has no weights to train on. Name the model's folder, or a Hugging Face id.")
        return cls(spec.id, spec, spec.identity(base_id or spec.id, spec.revision))


def load_tokenizer(base: TrainingBase) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base.source, revision=base.identity.revision)


def load_model(base: TrainingBase, device: str, quantize: str | None) -> Any:
    """Return the model on `device`, ready for PEFT.

    quantize: "nf4" holds its linear layers in 4 bits with double quantization (QLoRA).
    """
    from transformers import AutoModelForCausalLM

    from hub.runtime.base import nf4_settings
    from hub.runtime.quiet import silence_advice
    from hub.runtime.whole import check_whole

    silence_advice()
    dtype = training_dtype(device)
    options: dict[str, Any] = {"dtype": dtype, "revision": base.identity.revision}
    if quantize:
        options |= {"quantization_config": nf4_settings(dtype), "device_map": {"": device}}
    with quiet_transformers():
        model, report = AutoModelForCausalLM.from_pretrained(base.source, output_loading_info=True, **options)
    check_whole(base.source, model, report)
    return _prepared_for_4_bit(model) if quantize else model.to(device)


def choose_device(device: str) -> str:
    """Return `device`, or for "auto" the CUDA device if there is one."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def training_dtype(device: str) -> torch.dtype:
    """Return the fastest dtype that training is stable in: bf16 where the hardware multiplies it, else fp32.

    A CPU without bf16 instructions emulates them: 30 times slower than fp32, measured on AVX2.
    """
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' own progress bars for a while: ours says what is going on."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _prepared_for_4_bit(model: Any) -> Any:
    from peft import prepare_model_for_kbit_training

    from hub.training.four_bit import multiply_from_codes

    multiply_from_codes(model)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
