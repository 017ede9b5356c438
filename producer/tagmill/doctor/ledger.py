"""What is in the store: lanes of other releases, and what is paused or stands still."""

from __future__ import annotations

from collections.abc import Sequence

from tagmill.contract import BY_HAND
from tagmill.doctor.findings import Look
from tagmill.settings import Settings
from tagmill.store import LaneNote, Store
from tagmill.store.lanes import SEEN_WITHIN_S
from tagmill.store.standstill import Standstill
from tagmill.version import __version__

OVERDUE_S = 60.0
"""A tick that runs takes care of a chunk within seconds of its time."""

_MOST_JOBS = 5


def look_at_ledger(settings: Settings, *, messages: int | None) -> Look:
    """Look at lanes, jobs and chunks.

    Args:
        settings: with a store of this release's schema.
        messages: that wait in the broker, ``None`` where there is none or it did not say.
    """
    look = Look()
    store = Store(settings.store_address)
    still = Standstill(store.database)
    for job_id, why in still.paused(_MOST_JOBS):
        by = "by hand" if why == BY_HAND else f"since {why}"
        look.note("jobs", f"{job_id} is paused {by}", f"tagmill resume {job_id}")
    if settings.broker_url is not None:
        lanes = store.lanes.alive(within_s=SEEN_WITHIN_S)
        _lanes(look, lanes)
        labelling = sum(not lane.trains for lane in lanes)
        _chunks(look, still, lanes=labelling, messages=messages)
        if lanes and not labelling and still.queued():
            look.note("lanes", "chunks wait, and no lane that labels is alive", "tagmill worker")
        _trainings(look, store, lanes)
        _schedules(look, store)
    store.close()
    return look


def _lanes(look: Look, lanes: Sequence[LaneNote]) -> None:
    if not lanes:
        look.note("lanes", "none is alive", "tagmill worker")
        return
    others = [
        f"{lane.name} ({lane.release or 'an older one'})"
        for lane in lanes
        if lane.release != __version__
    ]
    if others:
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if others[5:] else "")
        look.note(
            "lanes",
            f"{len(lanes)} are alive, of another release than this {__version__}: {shown}",
            "install one release everywhere, and start tagmill worker again",
        )
    else:
        look.well("lanes", f"{len(lanes)} are alive")


def _chunks(look: Look, still: Standstill, *, lanes: int, messages: int | None) -> None:
    overdue = still.overdue(OVERDUE_S)
    if overdue.chunks:
        look.note(
            "chunks",
            f"the time of {overdue.chunks:,} is over, of one since {overdue.longest_s:,.0f} s, "
            "and no tick has sent them again",
            "tagmill scheduler" if lanes else "tagmill worker, and tagmill scheduler",
        )
    queued = still.queued()
    if messages == 0 and queued > lanes:  # each lane may have a message in hand
        look.note(
            "chunks",
            f"{queued:,} wait for a lane, and the broker has no message of them",
            "tagmill scheduler, whose tick sends them again",
        )


def _trainings(look: Look, store: Store, lanes: Sequence[LaneNote]) -> None:
    waiting = store.trainings.waiting()
    if waiting and not any(lane.trains for lane in lanes):
        look.note(
            "trainings",
            f"{len(waiting)} wait, and no lane that trains is alive",
            "tagmill worker --queues train",
        )


def _schedules(look: Look, store: Store) -> None:
    overdue = store.schedules.due(store.jobs.now() - OVERDUE_S)
    if overdue:
        names = ", ".join(schedule.name for schedule in overdue[:5])
        look.note(
            "schedules",
            f"{len(overdue)} were due and did not fire: {names}",
            "tagmill scheduler, and a tagmill worker that takes its tick",
        )
