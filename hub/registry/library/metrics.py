"""Evaluation results that publishers attach to a version."""

from __future__ import annotations

import math

from sqlalchemy.orm import Session

from hub.errors import InvalidRequest, NotFound
from hub.refs import AdapterName
from hub.registry.context import Context
from hub.registry.db.models import MetricRow
from hub.registry.events import audit
from hub.registry.library.lookup import find_adapter, find_version
from hub.registry.rights.access import Action, Actor
from hub.registry.values import Metric

MAX_NAME_LENGTH = 96
MAX_DATASET_LENGTH = 200


def set_metric(
    context: Context, actor: Actor, name: AdapterName, number: int, metric: str, value: float, dataset: str = ""
) -> Metric:
    """Attach an evaluation result to a version, or replace it.  PUBLISH."""
    if not 1 <= len(metric.strip()) <= MAX_NAME_LENGTH or len(dataset) > MAX_DATASET_LENGTH:
        raise InvalidRequest(
            f"A metric's name has 1 to {MAX_NAME_LENGTH} characters, its data set's at most {MAX_DATASET_LENGTH}."
        )
    if not math.isfinite(value):
        raise InvalidRequest(f"{value} is no result: a metric is a finite number.")

    def work(session: Session) -> Metric:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        version = find_version(session, row, name, number)
        found = session.get(MetricRow, (version.id, metric, dataset))
        if found is None:
            found = MetricRow(version_id=version.id, name=metric, dataset=dataset)
            session.add(found)
        found.value, found.user_id, found.at = float(value), actor.user_id, context.now()
        audit.record(
            context,
            session,
            actor,
            "metric.set",
            f"{name}@v{number}",
            name.namespace,
            metric=metric,
            value=float(value),
            dataset=dataset,
        )
        return Metric(metric, found.value, dataset, actor.user, found.at)

    return context.database.transact(work)


def delete_metric(
    context: Context, actor: Actor, name: AdapterName, number: int, metric: str, dataset: str = ""
) -> None:
    """PUBLISH.  Raises NotFound."""

    def work(session: Session) -> None:
        row, _ = find_adapter(session, actor, name, Action.PUBLISH, lock=True)
        version = find_version(session, row, name, number)
        found = session.get(MetricRow, (version.id, metric, dataset))
        if found is None:
            raise NotFound(f"{name}@v{number} has no metric {metric[:96]!r}. See them: lorahub show {name}@v{number}")
        session.delete(found)
        audit.record(
            context,
            session,
            actor,
            "metric.delete",
            f"{name}@v{number}",
            name.namespace,
            metric=metric,
            dataset=dataset,
        )

    context.database.transact(work)
