"""Firing schedules: what is due becomes a training, or a job that a lane lists.

Several ticks at once fire nothing twice, see `tagmill.store.schedules`. A schedule that was due
several times while nobody ticked fires once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection

from tagmill.contract import ListMessage, Message
from tagmill.cron import next_time
from tagmill.errors import ModelUnavailable, UsageError
from tagmill.store import Schedule, Store
from tagmill.store.jobs import BREAKER_OUTCOMES, insert_job
from tagmill.store.schedules import ScheduleKind
from tagmill.store.trainings import insert_training
from tagmill.training import StoredRequest, TrainingRequest, TrainMessage

log = logging.getLogger(__name__)

LISTING_S = 600.0
"""A listing that got on with nothing for that long is nobody's any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRequest(StoredRequest):
    """What a schedule labels.

    Attributes:
        source: made absolute.
        model: name, ``name@alias`` or ``name@version``; what it means is found out when it fires.
        top_k: labels kept per item.
        include: patterns of names that are listed; the suffixes of images where empty.
        exclude: patterns of names that are not.
    """

    called: ClassVar[str] = "the schedule's"

    source: str
    model: str
    top_k: int = 5
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


def fire_due(
    store: Store, resolve: Callable[[str], str], *, now: float | None = None
) -> Sequence[Message]:
    """Fire what is due.

    Args:
        store: where the schedules are.
        resolve: the version that a model's name means, as ``name@number``; may raise
            `TagmillError`.
        now: seconds since the epoch; the store's clock where ``None``.

    Returns:
        Messages for what was made. One that is lost is sent again by a later tick.
    """
    moment = store.jobs.now() if now is None else now
    messages: list[Message] = []
    for due in store.schedules.due(moment):
        try:
            message = fire(store, due, resolve, now=moment)
        except (UsageError, ModelUnavailable) as error:  # others may be due too
            log.error("schedule cannot fire schedule=%s: %s", due.name, error)
            continue
        if message is not None:
            messages.append(message)
    return messages


def fire(
    store: Store, due: Schedule, resolve: Callable[[str], str], *, now: float
) -> Message | None:
    """Fire one schedule; what wakes a lane up for what it made, if it made something."""
    next_at = next_time(due.cron, due.zone, after=now)
    load = TrainingRequest.load if due.kind is ScheduleKind.TRAIN else LabelRequest.load
    asked = load(due.request)  # what a newer release asks for is left to its own lanes
    why_not, model = _why_not(store, due), ""
    if why_not is None and isinstance(asked, LabelRequest):
        try:
            model = resolve(asked.model)
        except UsageError as error:
            why_not = str(error)

    def make(connection: Connection) -> str | None:
        if why_not is not None:
            return None
        if isinstance(asked, TrainingRequest):
            return insert_training(connection, asked, schedule=due.name)
        return insert_job(
            connection,
            source=asked.source,
            model=model,
            top_k=asked.top_k,
            include=json.dumps(asked.include),
            exclude=json.dumps(asked.exclude),
            breaker=BREAKER_OUTCOMES,
            lister_until=now + LISTING_S,
        )

    made = store.schedules.fire(due, next_at=next_at, make=make, said=why_not)
    if made is None:
        if why_not is not None:
            log.warning("schedule fired and made nothing schedule=%s: %s", due.name, why_not)
        return None
    log.info("schedule fired schedule=%s made=%s", due.name, made)
    return TrainMessage(training=made) if due.kind is ScheduleKind.TRAIN else ListMessage(job=made)


def _why_not(store: Store, due: Schedule) -> str | None:
    """What it made last must have ended, else it would pile up."""
    if due.last_id is None:
        return None
    if due.kind is ScheduleKind.TRAIN:
        ended = store.trainings.get(due.last_id).state.is_finished
    else:
        ended = store.jobs.get(due.last_id).state.is_finished
    return None if ended else f"{due.last_id}, which it made before, has not ended"
