"""Running the jobs: one by one in a background thread of each worker, or all at once by a command."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hub.registry.context import Context
from hub.registry.derived import queue
from hub.registry.derived.recipe import Derived, Job, Recipe
from hub.registry.derived.sandbox import Sandbox

_SPENT_LIFETIME_SECONDS = 600.0


class Deriving:
    """One worker's state: how far it has swept, and how much time each namespace used lately."""

    def __init__(self, context: Context, recipes: Sequence[Recipe]) -> None:
        self._context, self._recipes = context, tuple(recipes)
        self._sandbox = Sandbox(context.settings.store)
        self._seen = 0
        self._spent: dict[str, float] = {}
        self._spent_since = time.monotonic()

    def start(self) -> None:
        queue.forget_other_recipes(self._context, self._recipes)

    def step(self) -> bool:
        """Look for new versions, then make one value.  Returns False if there was nothing to do."""
        before, self._seen = self._seen, queue.sweep(self._context, self._recipes, self._seen)
        self._forget_spent()
        job = queue.claim(self._context, self._recipes, self._spent)
        if job is None:
            self._sandbox.close()
            return self._seen > before
        started = time.monotonic()
        try:
            make(self._context, self._sandbox, job)
        finally:
            self._spent[job.share] = self._spent.get(job.share, 0.0) + time.monotonic() - started
        return True

    def finish(self) -> None:
        """Run all waiting jobs."""
        while self.step():
            pass

    def close(self) -> None:
        self._sandbox.close()

    def _forget_spent(self) -> None:
        if time.monotonic() - self._spent_since > _SPENT_LIFETIME_SECONDS:
            self._spent, self._spent_since = {}, time.monotonic()


def make(context: Context, sandbox: Sandbox, job: Job) -> None:
    """Run a claimed job and store its outcome."""
    versions = [queue.files_of(context, digest) for digest in job.digests]
    known = [files for files in versions if files is not None]
    if len(known) < len(versions):
        queue.drop(context, job)
        return
    missing = [path for path in job.recipe.needs for files in known if path not in files]
    if missing:
        queue.keep(context, job, Derived("failed", reason=f"The version has no {missing[0]}."))
        return
    queue.keep(context, job, sandbox.run(job.recipe, known))
