"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine must not fail a test for being slow.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
