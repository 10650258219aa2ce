"""Load a base model from a folder or by its Hugging Face id, dense or as NF4."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from hub.errors import BaseNotFound, InvalidRequest
from hub.runtime.four_bit import Linear4bit
from hub.runtime.quantized_base import QuantizedBases
from hub.runtime.whole import check_whole


def load_base(folder: Path, quantize: str | None, device: torch.device, cache: Path, compute: str | None = None) -> Any:
    """Return the transformers model in `folder`, in eval mode.

    quantize: "nf4" quantizes a base that isn't yet, or takes it from `cache`, where the first load leaves a copy.
    compute: "float32" or "bfloat16"; None is the device's own.  The 4-bit codes are the same for both.
    """
    config = read_config(folder)
    dtype = compute_dtype(device)
    wanted = dtype if compute is None else COMPUTE[compute]
    if quantize != "nf4" or getattr(config, "quantization_config", None) is not None:
        return _in_dtype(open_model(folder, wanted, device), wanted)
    settings = nf4_settings(dtype, model_class(config))
    bases = QuantizedBases(cache / "quantized")
    entry = bases.entry(folder, settings.to_dict())
    model = bases.load(entry, lambda copy: open_model(copy, dtype, device))
    if model is None:
        model = open_model(folder, dtype, device, quantization_config=settings)
        bases.store(entry, model)
    model.name_or_path = model.config._name_or_path = str(folder)  # a cached copy lies elsewhere
    return _in_dtype(model, wanted)


def open_model(folder: Path, dtype: torch.dtype, device: torch.device, **options: Any) -> Any:
    """Open a model's folder with transformers: safetensors only, and none of its own code.

    Raises Incompatible if the folder lacks weights of the model.
    """
    # `options` has quantization_config or nothing: even None would override what the folder says of itself.
    with quiet_progress():
        model, report = model_class(read_config(folder)).from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
        )
    check_whole(folder, model, report)
    _let_it_be_saved(model)
    return model.eval()


def _let_it_be_saved(model: Any) -> None:
    """Forget how a 4-bit checkpoint was read: transformers would reverse those steps when it saves, and can't.

    Nothing is to be reversed: the state of a 4-bit layer has the checkpoint's form by itself.
    """
    steps = getattr(model, "_weight_conversions", None)
    if steps:
        model._weight_conversions = [
            step
            for step in steps
            if not any(type(part).__name__ == "Bnb4bitDeserialize" for part in getattr(step, "operations", ()))
        ]


def _in_dtype(model: Any, dtype: torch.dtype) -> Any:
    """Let the model compute in `dtype`: what isn't 4-bit is held in it, 4-bit layers multiply in it.

    A cached copy keeps in 16 bits what isn't 4-bit, and a base is quantized in the device's own type.
    """
    for parameter in model.parameters():
        if parameter.dtype in (torch.bfloat16, torch.float16, torch.float32) and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
    model.config.dtype = dtype
    return model


def locate_base(base: str | os.PathLike[str]) -> Path:
    """Return the folder of a base; one named by its Hugging Face id is fetched unless it is on this disk.

    Raises BaseNotFound.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.jinja", "merges.txt", "vocab.txt"]
    try:
        return Path(snapshot_download(str(base), allow_patterns=wanted))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BaseNotFound(
            f"{base} is neither a model's folder nor a Hugging Face id that can be fetched "
            f"({str(error).splitlines()[0][:200]}). Name a folder with config.json and safetensors."
        ) from error


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


COMPUTE = {"float32": torch.float32, "bfloat16": torch.bfloat16}

CLASSIFIERS = ("score", "classifier", "pre_classifier", "qa_outputs")


def nf4_settings(dtype: torch.dtype, model: type | None = None) -> BitsAndBytesConfig:
    """Return the one 4-bit recipe: NF4 with double quantization.

    model: the class that is quantized; a classifier's head stays dense, since it is trained whole.
    """
    is_classifier = model is not None and model.__name__.endswith(("Classification", "QuestionAnswering"))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(CLASSIFIERS) if is_classifier else None,
    )


def model_class(config: Any) -> Any:
    """Return the class that the weights were saved from, by config.json: any of transformers' own, with its head.

    A config that names none, or one that this transformers doesn't have, is a causal language model where there is one
    of its kind.
    """
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            return found
    return AutoModelForCausalLM if type(config) in AutoModelForCausalLM._model_mapping else AutoModel


def read_config(folder: Path) -> Any:
    """Return the folder's configuration, of a class of transformers' own.  Raises BaseNotFound."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BaseNotFound(
            f"{folder} is no base model that can be loaded: {str(error).splitlines()[0]} "
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
