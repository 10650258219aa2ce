"""Read the weights that a 4-bit base was quantized from, one layer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hub.base.checkpoint import open_checkpoint
from hub.errors import InvalidRequest
from hub.formats.readable import LocalFile, Readable
from hub.runtime import dense
from hub.runtime.dtypes import DTYPES


class OriginalWeights:
    """The base's folder, read tensor by tensor: the peak memory is one layer, however large the shards are."""

    def __init__(self, folder: Path | None, modules: dict[str, Any]) -> None:
        """Raise InvalidRequest unless `folder` has the dense weights."""
        if folder is None or not folder.is_dir():
            raise InvalidRequest(
                'mode="from-base" reads the original weights, and where they are isn\'t known: load the base by its '
                'folder, hub.load("./base-model", …), or merge with mode="dequant".'
            )
        files: dict[str, Readable] = {p.name: LocalFile(p) for p in sorted(folder.iterdir()) if p.is_file()}
        self._checkpoint = open_checkpoint(files)
        self._folder, self._modules = folder, modules

    def __call__(self, module: str) -> torch.Tensor:
        """Return the weight of `module` as (out, in) in float32."""
        name = f"{module}.weight"
        stored = self._checkpoint.tensors.get(name)
        block = None
        if stored is not None and stored.dtype in DTYPES:
            count = 1
            for side in stored.shape:
                count *= side
            block = self._checkpoint.read(name, 0, count)
        if stored is None or block is None or block.dtype not in DTYPES:
            raise InvalidRequest(
                f"{self._folder} has no dense weight of {module}, so it can't be merged from-base. "
                'Merge with mode="dequant".'
            )
        weight = torch.frombuffer(bytearray(block.data), dtype=DTYPES[block.dtype]).view(stored.shape).float()
        return self._oriented(module, weight)

    def _oriented(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        layer = self._modules[module]
        source = getattr(layer, "source_cls", None)
        if source is not None and source.__name__ == "Conv1D":
            weight = weight.t()  # stored (in, out), and turned when it was quantized
        wide, narrow = dense.features(layer)
        if tuple(weight.shape) != (narrow, wide):
            raise InvalidRequest(f"{self._folder} has another shape of {module} than the model that is loaded.")
        return weight.contiguous()
