"""The Celery side of a lane: the one module that turns messages into a lane's work."""

from __future__ import annotations

import logging
import mmap
import os
import re
import signal
from collections.abc import Callable, Sequence
from typing import Any

from billiard import current_process
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_process_init, worker_process_shutdown
from celery.worker import state
from celery.worker.request import Request

from tagmill.contract import (
    LABEL_TASK,
    LIST_TASK,
    MESSAGE_VERSION,
    TICK_TASK,
    ChunkMessage,
    ListMessage,
)
from tagmill.errors import MessageError, MissingError, TagmillError
from tagmill.store import Store
from tagmill.training import TRAIN_TASK, TrainMessage
from tagmill_worker.hands import Hand
from tagmill_worker.lane import Lane
from tagmill_worker.lost import LostLanes
from tagmill_worker.signals import killed_by
from tagmill_worker.slots import Slot

log = logging.getLogger(__name__)

LIST_TIME_LIMIT_S = 5 * 3600
"""For a listing of many millions; it goes on where it was cut off. Below the time after which Redis
hands its message to another lane."""

TRAIN_TIME_LIMIT_S = 7 * 86_400
"""A training has a lease, and somebody who may cancel it; this ends one that hangs."""

_HOW = re.compile(r"(signal|exitcode) (\d+)")
_ID = re.compile(r"[0-9a-z-]{1,32}")


def parse_message(body: dict[str, Any]) -> ChunkMessage:
    """Read the body of a message, which anybody may have sent.

    Raises:
        MessageError: if it is not ours.
    """
    job, seq = _parse(body, "job", "seq"), body["seq"]
    if type(seq) is not int or not 0 <= seq < 2**62:
        raise MessageError(f"a message for chunk {_shown(seq)}")
    return ChunkMessage(job=job, seq=seq)


def parse_list_message(body: dict[str, Any]) -> ListMessage:
    """Read the body of a message for a listing; as `parse_message`."""
    return ListMessage(job=_parse(body, "job"))


def parse_train_message(body: dict[str, Any]) -> TrainMessage:
    """Read the body of a message for a training; as `parse_message`."""
    return TrainMessage(training=_parse(body, "training"))


def _parse(body: dict[str, Any], what: str, *others: str) -> str:
    """The id that a message names, its version and its fields checked."""
    if set(body) != {"v", what, *others}:
        raise MessageError(f"a message with the fields {sorted(map(str, body))[:10]!s:.200}")
    version, name = body["v"], body[what]
    if type(version) is not int or version != MESSAGE_VERSION:
        raise MessageError(
            f"a message of version {_shown(version)}, this lane reads {MESSAGE_VERSION}"
        )
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise MessageError(f"a message for {what} {_shown(name)}")
    return name


def _shown(value: object) -> str:
    """The beginning of a text or a number that a line can hold; of anything else its kind."""
    is_short = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63)
    return f"{value!r:.40}" if is_short else f"of type {type(value).__name__}"


def register(
    app: Celery,
    make_lane: Callable[..., Lane],
    *,
    slot: Slot,
    hands: Sequence[Hand],
    lost: LostLanes,
    send: Callable[[Sequence[ChunkMessage]], None],
    tick: Callable[[Store], int],
    list_job: Callable[[ListMessage, Lane], None],
    train: Callable[[TrainMessage, Lane], None],
    warm_up: str | None,
) -> End:
    """Give an application its tasks.

    Args:
        app: of the worker.
        make_lane: makes the lane of a process, in that process; see `lane_of`.
        slot: whose lanes these are.
        hands: of the lanes.
        lost: is told of lanes that die.
        send: sends messages for chunks that a lane split.
        tick: see `tagmill.tick`.
        list_job: see `tagmill_worker.listing_lane`.
        train: see `tagmill_worker.training_process`.
        warm_up: the model version that a lane loads before it takes work.

    Returns:
        Tells whether a lane ended the worker.
    """
    lanes: list[Lane] = []
    end = End()

    @worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery's
    def _start_lane(**_: Any) -> None:
        index = current_process().index
        lane_file = slot.lanes[index]
        lane_file.starting()
        core = slot.core(index)
        if core is not None:  # before a runtime asks how many cores there are
            os.sched_setaffinity(0, {core})
        try:
            lane = make_lane(
                slot.lane_name(index),
                device=slot.device(index),
                hand=hands[index],
                alive=lane_file.beat,
            )
            lane.begin()
            if warm_up:
                lane.warm_up(warm_up)
            lane.ready()
        except (
            Exception
        ) as error:  # Celery would swallow it and hand tasks to a process without lane
            end.ask(error)
            raise
        lanes.append(lane)
        lane_file.ready()
        log.info(
            "lane ready lane=%s pid=%d device=%s queues=%s",
            lane.name,
            os.getpid(),
            slot.device(index),
            ",".join(slot.queues),
        )

    @worker_process_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]  # Celery's
    def _end_lane(**_: Any) -> None:
        for lane in lanes:
            lane.end()

    @app.task(name=LABEL_TASK, Request=_request_class(lost))  # type: ignore[untyped-decorator]  # Celery's
    def label(**body: Any) -> None:
        try:
            message = parse_message(body)
        except MessageError as error:
            log.error("dropped: %s", error)
            return
        try:
            send(lanes[0].do(message))
        except Exception as error:  # the task boundary: whatever it was, the message stays
            end.ask(error)
            raise Reject(str(error), requeue=True) from error

    @app.task(name=TICK_TASK, Request=FrankRequest)  # type: ignore[untyped-decorator]  # Celery's
    def remind() -> None:
        try:
            tick(lanes[0].store)
        except MissingError as error:  # the next tick is soon
            log.warning("no tick: %s", error)

    @app.task(name=LIST_TASK, Request=FrankRequest, time_limit=LIST_TIME_LIMIT_S)  # type: ignore[untyped-decorator]  # Celery's
    def list_source(**body: Any) -> None:
        try:
            list_job(parse_list_message(body), lanes[0])
        except MessageError as error:
            log.error("dropped: %s", error)
        except MissingError as error:  # a tick names the job again
            log.warning("the listing broke off: %s", error)

    # Acknowledged at once, as no broker waits so long: what its lane leaves undone the tick names.
    @app.task(name=TRAIN_TASK, acks_late=False, Request=FrankRequest, time_limit=TRAIN_TIME_LIMIT_S)  # type: ignore[untyped-decorator]  # Celery's
    def train_version(**body: Any) -> None:
        try:
            train(parse_train_message(body), lanes[0])
        except MessageError as error:
            log.error("dropped: %s", error)
        except MissingError as error:  # a tick names the training again
            log.warning("no training: %s", error)

    return end


class FrankRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """Celery's, but a message that cannot be acknowledged makes the worker connect anew.

    Celery only logs it, and the message counts as in hand ever after: once there are as many as
    lanes, the worker takes no other.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connection_errors = ()  # which Celery would log


def _request_class(lost: LostLanes) -> type[Request]:
    """Celery's request, which tells of a lane that died with its chunk."""

    class LabelRequest(FrankRequest):
        def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
            why = _why_lost(getattr(exc_info.exception, "exc", exc_info.exception))
            if why:  # before the message goes back, and somebody else claims the chunk
                self._note(why)
            return super().on_failure(exc_info, *arguments, **options)

        def _note(self, why: str) -> None:
            asked = (state.should_stop, state.should_terminate)  # an exit code, where it was
            if any(code is not None and code is not False for code in asked):
                return  # the worker ends its lanes itself
            try:
                message = parse_message(self.kwargs)
            except MessageError:
                return
            lost.note(message, pid=self.worker_pid, why=why)

    return LabelRequest


def _why_lost(error: BaseException) -> str | None:
    """Why a lane was lost, as a phrase in our words; ``None`` where none was."""
    if isinstance(error, TimeLimitExceeded):
        return f"its chunk took longer than {error.args[0]:.0f} s"
    if not isinstance(error, WorkerLostError):
        return None
    how = _HOW.search(str(error))
    if how is None:
        return "its process ended"
    number = int(how[2])
    return killed_by(number) if how[1] == "signal" else f"its process ended with exit code {number}"


class End:
    """The end of a worker that a lane asks for, since every lane would meet what it met.

    Made in the worker's process, before lanes are forked.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._asked = mmap.mmap(-1, 1)  # shared by the processes that are forked

    @property
    def was_asked_for(self) -> bool:
        """True where a lane ended the worker."""
        return self._asked[0] != 0

    def ask(self, error: Exception) -> None:
        """End the whole worker; what other lanes have in hand is finished."""
        if not isinstance(error, TagmillError):
            log.error("a fault in the code", exc_info=error)
        log.error("the worker stops: %s", error if isinstance(error, TagmillError) else repr(error))
        self._asked[0] = 1
        if os.getppid() == self._pid:  # else it is gone already, and its place another's
            os.kill(self._pid, signal.SIGTERM)
