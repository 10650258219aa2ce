"""Training with PEFT: `hub.train`, and `hub.plan` for the memory that it will take."""

from __future__ import annotations

from hub.training.memory import MemoryPlan, plan
from hub.training.result import TrainedAdapter
from hub.training.trainer import TrainingStep, train

__all__ = ["MemoryPlan", "TrainedAdapter", "TrainingStep", "plan", "train"]
