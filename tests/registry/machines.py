"""How the state machines are run: each sequence in a world of its own, over a few adapters that all of them share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from hub.settings import ServerSettings
from tests.registry.conftest import fresh_database
from tests.registry.world import World
from tests.support.adapters import write_adapter


class WorldMachine(RuleBasedStateMachine):
    """open_world: a world that nothing has happened in.  folders: the adapters that may be pushed."""

    open_world: ClassVar[Callable[[], World]]
    folders: ClassVar[list[Path]]
    world: World


def run_machine(
    machine: type[WorldMachine],
    kind: str,
    request: pytest.FixtureRequest,
    quick_folder: Path,
    contents: int,
    examples: int,
    steps: int,
) -> int:
    """Run so many sequences of so many steps, and return how many came to their end, where all is checked once more."""
    shared = Path(tempfile.mkdtemp(dir=quick_folder))

    def open_world() -> World:
        folder = Path(tempfile.mkdtemp(dir=quick_folder))
        database = fresh_database(kind, request, folder)
        return World.open(ServerSettings(folder, database, str(folder / "store")), folder)

    ended: list[None] = []

    class Machine(machine):  # type: ignore[misc, valid-type]
        def teardown(self) -> None:
            super().teardown()
            ended.append(None)

    Machine.open_world = staticmethod(open_world)  # type: ignore[assignment]
    # All of one configuration, so that adapters share a blob and differ in another.
    Machine.folders = [
        write_adapter(shared / str(number), seed=number, layers=1, hidden=8) for number in range(contents)
    ]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=examples < 50,
        ),
    )
    return len(ended)
