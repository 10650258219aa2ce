"""How often tests that draw their inputs do so: a few times in CI, many times in `make attack`."""

from __future__ import annotations

import os

ATTACK = "LORAHUB_ATTACK_ROUNDS"


def rounds(usual: int) -> int:
    """Return `usual`, times what the environment says."""
    return usual * int(os.environ.get(ATTACK, "1"))
