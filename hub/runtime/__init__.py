"""Run LoRA adapters on a base model, dense or 4-bit.  Needs the extra `load`.

from hub.runtime import load
model = load("./base-model", "task/qa@v2")
"""

from hub.runtime.loading import load
from hub.runtime.merge import MergeReport
from hub.runtime.model import Model

__all__ = ["MergeReport", "Model", "load"]
