"""What a folder is that can never become a LoRA adapter: told by its files' names, its config, its weights' tensors.

A sender is told before it has sent everything.  What is only missing, or doesn't fit together yet, is no business of
this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hub.adapter.config import MAX_CONFIG_BYTES, LoraConfig
from hub.adapter.content import check_allowed
from hub.adapter.keys import parse_key
from hub.errors import InvalidAdapter
from hub.formats.readable import Readable
from hub.formats.safetensors_header import parse_header
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"pytorch_lora_weights\.safetensors\Z"), "a diffusers LoRA for an image model"),
    (re.compile(r"model_index\.json\Z|diffusion_pytorch_model[\w.-]*\.safetensors\Z"), "a diffusers pipeline"),
    (re.compile(r"model(-\d+-of-\d+)?\.safetensors\Z|model\.safetensors\.index\.json\Z"), "a full model"),
)
_PEFT_TYPE = re.compile(rb'"peft_type"\s*:\s*"(\w{1,40})"')
_FEW = 8


def refuse_foreign_names(paths: Iterable[str]) -> None:
    """Raise InvalidAdapter if these files are another kind of model, or an adapter in a folder of its own."""
    names = sorted(paths)
    if CONFIG_FILE in names:
        return
    nested = next((name for name in names if name.endswith(f"/{CONFIG_FILE}")), None)
    if nested is not None:
        _refuse_nested(nested.removesuffix(CONFIG_FILE))
    for kind, what in _KINDS:
        found = next((name for name in names if kind.match(name.rpartition("/")[2])), None)
        if found is not None:
            raise InvalidAdapter(
                f"{found[:120]!r} is part of {what}, which can't become a version: lorahub holds LoRA adapters, "
                f"folders with {CONFIG_FILE} and {WEIGHTS_FILE}, as PEFT's save_pretrained writes them."
            )


def _refuse_nested(folder: str) -> None:
    raise InvalidAdapter(
        f"The adapter is in {folder[:120]}, where PEFT puts one with a name of its own; a version has {CONFIG_FILE} at "
        f"the top. Upload that folder alone: hf upload NAMESPACE/NAME ./{folder[:120].rstrip('/')}"
    )


def refuse_foreign_sample(path: str, first_bytes: bytes) -> None:
    """Raise InvalidAdapter if a config's first bytes say that it is of another method than LoRA."""
    found = _PEFT_TYPE.search(first_bytes) if path == CONFIG_FILE else None
    if found is not None and found[1] != b"LORA":
        LoraConfig.from_json({"peft_type": found[1].decode()})


def refuse_foreign_files(files: Mapping[str, Readable]) -> None:
    """Raise InvalidAdapter or InvalidSafetensors if these files, whatever comes to them, are no LoRA adapter."""
    refuse_foreign_names(files)
    config, weights = files.get(CONFIG_FILE), files.get(WEIGHTS_FILE)
    if config is not None:
        check_allowed(LoraConfig.parse(config.read(0, MAX_CONFIG_BYTES + 1)))
    if weights is not None:
        for name in list(parse_header(weights.read, weights.size).tensors)[:_FEW]:
            parse_key(name)
