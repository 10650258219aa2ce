"""Load a base model from a folder or by its Hugging Face id, dense or as NF4."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from hub.errors import BaseNotFound, InvalidRequest


def load_base(base: str | os.PathLike[str], quantize: str | None, device: str, cache: Path) -> Any:
    """Return the transformers model at `base`, in eval mode.

    Raises BaseNotFound, and InvalidRequest for a device that isn't there.
    """
    where = pick_device(device)
    source = str(Path(base).expanduser()) if Path(base).expanduser().is_dir() else str(base)
    config = read_config(source)
    dtype = compute_dtype(where)
    is_quantized = getattr(config, "quantization_config", None) is not None
    # A base that is quantized already says how; even None would override that.
    options = {"quantization_config": nf4_settings(dtype)} if quantize == "nf4" and not is_quantized else {}
    with quiet_progress():
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, device_map={"": where}, **options)
    return model.eval()


def pick_device(device: str) -> torch.device:
    """Return the device that `device` names; "auto" is a GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise InvalidRequest(f'device={device!r} is no device: "auto", "cpu", "cuda" or "cuda:1".') from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest(f'device={device!r}: this machine has no CUDA device that torch can use. Use "cpu".')
    return where


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return what everything is computed in: float32 on a CPU, bfloat16 elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def nf4_settings(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def read_config(source: str) -> Any:
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BaseNotFound(
            f"{source} is no base model that can be loaded: {str(error).splitlines()[0]} "
            "Give a folder with config.json and safetensors, or a Hugging Face id."
        ) from error


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Show transformers' progress bars on a terminal only."""
    was_on = transformers_logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
