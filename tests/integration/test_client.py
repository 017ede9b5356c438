"""The Python API of a producer, on every database, with a real Valkey."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.brokers import valkey
from support.ledger import SUMMARY, outcomes

from tagmill import Client
from tagmill import enqueue as use_case
from tagmill.broker import Broker
from tagmill.contract import LABEL_QUEUE, ErrorCode, JobState, Priority, Status
from tagmill.errors import BrokerError, SourceError, UnknownJob, UsageError
from tagmill.listing import Listener
from tagmill.settings import load_settings
from tagmill.store import Store
from tagmill.store.jobs import BREAKER_OUTCOMES
from tagmill.tick import tick


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with valkey(tmp_path) as found:
        yield found


@pytest.fixture
def client(store_url: str, port: int, tmp_path: Path) -> Iterator[Client]:
    settings = load_settings(
        store_url=store_url,
        broker_url=f"redis://127.0.0.1:{port}/0",
        state_dir=tmp_path / "state",
    )
    with Client(settings) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    for n in range(60):
        (made / f"{n:02}.jpg").write_bytes(b"x" * n)
    return made


def label_all(client: Client, job_id: str, error: ErrorCode | None = None) -> int:
    """Do every chunk that waits, as a lane would; how many items they had."""
    items = 0
    for message in client.store.retries.waiting(job_id):
        claim = client.store.ledger.claim(job_id, message.seq, lane="lane", lease_s=60)
        if claim is not None:
            client.store.ledger.commit(claim, outcomes(claim, error), SUMMARY)
            items += len(claim.items)
    return items


def test_enqueued_source_is_in_the_ledger_and_its_messages_in_the_broker(
    client: Client, folder: Path
) -> None:
    job = client.enqueue(str(folder), include=["*1.jpg"], exclude=["01.*"], top_k=3)
    assert (job.state, job.listed, job.open) == (JobState.RUNNING, 5, 5)
    assert (job.include, job.exclude, job.model) == (("*1.jpg",), ("01.*",), "mobilenet_v2@1")
    assert client.broker.waiting(LABEL_QUEUE) == job.chunks
    assert client.jobs()[0] == client.job(job.id) == client.newest(str(folder)) == job


def test_what_is_known_is_skipped_by_the_next_job_and_again_forces(
    client: Client, folder: Path
) -> None:
    job = client.enqueue(str(folder))
    label_all(client, job.id)
    assert client.plan(str(folder)).fresh == 0
    second = client.enqueue(str(folder))
    assert (second.state, second.skipped) == (JobState.DONE, 60)
    assert client.enqueue(str(folder), again=True).open == 60


def test_listing_that_broke_off_goes_on_and_every_item_is_there_once(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 7)
    for cut in range(1, 8):
        counted = itertools.count(1)
        append = client.store.ledger.append

        def breaks(*arguments: object) -> object:
            if next(counted) == cut:  # noqa: B023  # called within the turn
                raise KeyboardInterrupt
            return append(*arguments)  # type: ignore[arg-type]  # noqa: B023

        monkeypatch.setattr(client.store.ledger, "append", breaks)
        with pytest.raises(KeyboardInterrupt):
            client.enqueue(str(folder), again=True)
        monkeypatch.setattr(client.store.ledger, "append", append)
        broken = client.newest()
        assert (broken.state, broken.listed) == (JobState.LISTING, 7 * (cut - 1))
        job = client.resume_listing(broken.id)
        assert (job.state, job.listed) == (JobState.RUNNING, 60)
        label_all(client, job.id)
        results = list(client.results(job.id))
        assert [result.n for result in results] == list(range(60))
        assert len({result.uri for result in results}) == 60
        assert client.job(job.id).state is JobState.DONE


def test_two_producers_on_one_listing_do_not_list_anything_twice(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 7)
    other = Client(client.settings)
    send = client.broker.send
    overtaken: list[str] = []

    def overtaking(messages: object) -> None:
        send(messages)  # type: ignore[arg-type]
        if not overtaken:
            overtaken.append("")
            overtaken.append(other.resume_listing(client.newest().id).id)

    monkeypatch.setattr(client.broker, "send", overtaking)
    job = client.enqueue(str(folder))  # ends in peace: the other one was faster
    label_all(client, job.id)
    assert [result.n for result in client.results(job.id)] == list(range(60))
    other.close()


def test_listing_that_has_ended_has_nothing_to_go_on_with(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder))
    assert client.resume_listing(job.id).listed == 60, "but lanes are reminded"
    client.cancel(job.id)
    with pytest.raises(UsageError, match="is cancelled"):
        client.resume_listing(job.id)


def test_paused_job_gives_no_chunk_until_it_is_resumed(
    client: Client, folder: Path, port: int
) -> None:
    job = client.enqueue(str(folder))
    assert client.pause(job.id).paused == "by hand"
    assert label_all(client, job.id) == 0
    with redis.Redis(
        port=int(str(client.settings.broker_url.get_secret_value()).split(":")[2].split("/")[0])
    ) as broker:
        broker.flushall()  # lanes took the messages and found the job paused
    assert client.resume(job.id).paused is None
    assert client.broker.waiting(LABEL_QUEUE) == job.chunks
    assert label_all(client, job.id) == 60
    for call in (client.pause, client.resume, client.cancel):
        with pytest.raises(UsageError, match="is done already"):
            call(job.id)


def test_chunk_in_hand_is_committed_though_its_job_is_paused(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder))
    claim = client.store.ledger.claim(job.id, 0, lane="l", lease_s=9)
    assert claim is not None
    client.pause(job.id)
    client.store.ledger.commit(claim, outcomes(claim), SUMMARY)
    assert client.job(job.id).ok == len(claim.items)


def test_retry_takes_only_the_codes_that_are_asked_for(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder))
    label_all(client, job.id, ErrorCode.FORBIDDEN)
    with pytest.raises(UsageError, match="no failed items with unavailable"):
        client.retry(job.id, codes=[ErrorCode.UNAVAILABLE])
    assert client.retry(job.id, codes=[ErrorCode.FORBIDDEN]) == 60
    assert label_all(client, job.id) == 60
    done = client.job(job.id)
    assert (done.state, done.ok, done.failed) == (JobState.DONE, 60, 0)


def test_results_are_filtered_by_status_label_and_score(client: Client, folder: Path) -> None:
    first = client.enqueue(str(folder))
    (message, *_) = client.store.retries.waiting(first.id)
    claim = client.store.ledger.claim(first.id, message.seq, lane="l", lease_s=9)
    assert claim is not None
    client.store.ledger.commit(claim, outcomes(claim, ErrorCode.CORRUPT), SUMMARY)
    labelled = label_all(client, first.id)  # as 'Ä cat, "quoted"', 0.25

    def count(**wanted: object) -> int:
        return len(list(client.results(source=str(folder), **wanted)))  # type: ignore[arg-type]

    assert count() == 60
    assert count(status=Status.OK) == count(min_score=0.25) == labelled
    assert count(status=Status.FAILED) == 60 - labelled
    assert count(label='ä CAT, "quoted"') == count(label="n1") == labelled
    assert count(label="n1", min_score=0.3) == count(label="dog") == count(min_score=0.3) == 0


def test_watching_ends_with_the_job(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder))
    states = []
    for progress in client.watch(job.id, every_s=0.01):
        states.append(progress.job.state)
        label_all(client, job.id)
    assert states == [JobState.RUNNING, JobState.DONE]


def test_job_pauses_when_nearly_all_fails_unless_told_to_keep_going(
    client: Client, folder: Path
) -> None:
    assert client.enqueue(folder).breaker == BREAKER_OUTCOMES
    assert client.enqueue(folder, keep_going=True).breaker is None


def test_priority_of_a_job_goes_with_its_messages(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder), priority=Priority.HIGH)
    assert {message.priority for message in client.store.retries.waiting(job.id)} == {"high"}


def test_what_cannot_be_enqueued_leaves_no_job(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    for source in (str(tmp_path / "nowhere"), str(tmp_path / "state")):
        with pytest.raises(SourceError):
            client.enqueue(source)
    with pytest.raises(SourceError, match="not included"):
        client.enqueue(str(folder), include=["*.tif"])
    away = client.settings.model_copy(
        update={"broker_url": load_settings(broker_url="redis://127.0.0.1:1/0").broker_url}
    )
    with Client(away) as lost, pytest.raises(BrokerError, match="does not answer"):
        lost.enqueue(str(folder))
    without = client.settings.model_copy(update={"broker_url": None})
    with Client(without) as lost, pytest.raises(BrokerError, match="set TAGMILL_BROKER_URL"):
        lost.enqueue(str(folder))
    assert client.jobs() == []
    with pytest.raises(UnknownJob, match="no job of"):
        client.newest(str(folder))


def test_messages_that_the_broker_forgot_are_sent_again_by_the_tick(
    client: Client, folder: Path, port: int
) -> None:
    job = client.enqueue(str(folder))
    broker, store = client.broker, client.store
    assert tick(store, broker) == 0, "they wait in the broker"
    with redis.Redis(port=port) as server:
        server.flushall()
    assert tick(store, broker) == job.chunks == broker.waiting(LABEL_QUEUE)
    assert tick(store, broker) == 0


def test_chunk_whose_lease_ran_out_is_queued_again_once_and_counts_as_a_loss(
    client: Client, folder: Path
) -> None:
    job = client.enqueue(str(folder))
    store = client.store
    assert store.ledger.claim(job.id, 0, lane="dies", lease_s=-1)
    held = store.ledger.claim(job.id, 1, lane="lives", lease_s=60)
    before = client.broker.waiting(LABEL_QUEUE)
    assert tick(store, client.broker) == 1
    assert tick(store, client.broker) == 0
    assert client.broker.waiting(LABEL_QUEUE) == before + 1
    again = store.ledger.claim(job.id, 0, lane="next", lease_s=60)
    assert again is not None
    assert (again.losses, again.attempt) == (1, 2)
    assert held is not None
    store.ledger.commit(held, outcomes(held), SUMMARY)


def test_two_ticks_at_once_send_no_chunk_twice(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder))
    for message in client.store.retries.waiting(job.id):
        client.store.ledger.claim(job.id, message.seq, lane="l", lease_s=-1)
    stores = [Store(client.settings.store_address) for _ in range(4)]
    brokers = [Broker(client.settings) for _ in stores]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        sent = sum(pool.map(lambda pair: tick(*pair), zip(stores, brokers, strict=True)))
    assert sent == job.chunks
    for closing in (*stores, *brokers):
        closing.close()


def test_arguments_that_cannot_be_are_refused_before_a_job_is_made(
    client: Client, folder: Path
) -> None:
    wrong: list[dict[str, object]] = [
        {"priority": "urgent"}, {"top_k": 0}, {"top_k": 101}, {"include": "*.jpg"},
    ]  # fmt: skip
    for arguments in wrong:
        with pytest.raises(UsageError):
            client.enqueue(str(folder), **arguments)  # type: ignore[arg-type]
    assert client.jobs() == []
    job = client.enqueue(folder, priority="high")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="codes are a list"):
        client.retry(job.id, codes="corrupt")  # type: ignore[arg-type]


def test_listing_does_not_go_on_where_its_source_is_another_kind_now(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 7)

    class Stops(Listener):
        def on_page(self, job: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.enqueue(str(folder), listener=Stops())
    folder.rename(folder.parent / "elsewhere")
    folder.write_bytes(b"a file of that name")
    with pytest.raises(SourceError, match="which is one file now"):
        client.resume_listing(client.newest().id)
    assert client.newest().state is JobState.LISTING


def test_client_can_be_used_by_a_forked_process(client: Client, folder: Path) -> None:
    job = client.enqueue(str(folder))
    child = os.fork()
    if child == 0:
        os._exit(0 if client.job(job.id).listed == 60 else 1)
    assert client.job(job.id).listed == 60
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.job(job.id).listed == 60
