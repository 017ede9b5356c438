"""Following a folder and a bucket: what arrives is enqueued once, whenever it arrives."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.brokers import valkey
from support.ledger import SUMMARY, outcomes
from support.polling import until

from tagmill.client import Client
from tagmill.contract import ErrorCode, JobState
from tagmill.errors import BrokerError, UsageError
from tagmill.listing import Listener
from tagmill.settings import load_settings
from tagmill.store import Job, Store


@pytest.fixture
def make_client(store_url: str, tmp_path: Path) -> Iterator[Callable[[], Client]]:
    with closing(Store(store_url)) as store:
        store.prepare()
    with valkey(tmp_path) as port:

        def make() -> Client:
            return Client(
                load_settings(
                    store_url=store_url,
                    broker_url=f"redis://127.0.0.1:{port}/0",
                    state_dir=tmp_path / "state",
                )
            )

        yield make


class Stopped(Exception):
    pass


class StopsAfterOnePage(Listener):
    """Ends its producer as a signal would."""

    def on_page(self, job: Job) -> None:
        raise Stopped


class Following(Listener):
    """A producer that follows in a thread, until its job is cancelled or the thread is told."""

    def __init__(self, client: Client, source: str, every_s: float = 0.2) -> None:
        self.client = client
        self.job: Job | None = None
        self.troubles: list[Exception] = []
        self.refusal = ""
        self._stop = False
        self._thread = threading.Thread(target=self._follow, args=(source, every_s), daemon=True)

    def __enter__(self) -> Following:
        self._thread.start()
        until(lambda: self.job)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        if self.job is not None and self._thread.is_alive():
            self.client.store.jobs.cancel(self.job.id)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.client.close()

    def on_job(self, job: Job) -> None:
        self.job = job

    def on_trouble(self, error: Exception) -> None:
        self.troubles.append(error)

    def _follow(self, source: str, every_s: float) -> None:
        try:
            self.client.enqueue(source, follow=True, every_s=every_s, listener=self)
        except UsageError as error:
            self.refusal = str(error)

    def listed(self) -> int:
        assert self.job is not None
        return self.client.job(self.job.id).listed

    def label(self, error: ErrorCode | None = None) -> None:
        assert self.job is not None
        store = self.client.store
        for message in store.retries.waiting(self.job.id):
            claim = store.ledger.claim(self.job.id, message.seq, lane="l", lease_s=60)
            assert claim is not None
            store.ledger.commit(claim, outcomes(claim, error), SUMMARY)


def test_followed_folder_gives_what_is_there_and_what_arrives_once(
    make_client: Callable[[], Client], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    (folder / "below").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "notes.txt").write_bytes(b"no image")
    with Following(make_client(), str(folder), every_s=1000) as following:
        until(lambda: following.listed() == 1)
        (folder / "b.jpg").write_bytes(b"b")
        (folder / "below" / "c.jpg").write_bytes(b"c")
        (folder / "more.txt").write_bytes(b"no image")
        until(lambda: following.listed() == 3)
        following.label()
        new = folder / "moved in"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "d.jpg").write_bytes(b"d")
        elsewhere.rename(new)
        until(lambda: following.listed() == 4)
        (folder / "a.jpg").write_bytes(b"changed")
        until(lambda: following.listed() == 5)
        following.label()
        job = following.client.job(following.job.id)  # type: ignore[union-attr]
        assert (job.state, job.ok, job.open) == (JobState.LISTING, 5, 0)
        uris = [result.uri.rpartition("/")[2] for result in following.client.results(job.id)]
        assert sorted(uris) == ["a.jpg", "a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_followed_bucket_gives_what_arrives_and_failures_once(
    make_client: Callable[[], Client], bucket: Any
) -> None:
    bucket.put_object(Key="in/a.jpg", Body=b"a")
    with Following(make_client(), f"s3://{bucket.name}/in/") as following:
        until(lambda: following.listed() == 1)
        following.label(ErrorCode.FORBIDDEN)  # not settled, but not tried again by this job
        bucket.put_object(Key="in/b.jpg", Body=b"b")
        bucket.put_object(Key="out/c.jpg", Body=b"c")
        until(lambda: following.listed() == 2)
        bucket.put_object(Key="in/d.jpg", Body=b"d")
        until(lambda: following.listed() == 3)


def test_following_that_stopped_goes_on_with_the_same_job_and_repeats_nothing(
    make_client: Callable[[], Client], bucket: Any
) -> None:
    source = f"s3://{bucket.name}/"
    first, second = make_client(), make_client()
    bucket.put_object(Key="a.jpg", Body=b"a")
    stopped = first.store.jobs.create(source=source, model="mobilenet_v2@1", top_k=5, follow_s=0.2)
    with pytest.raises(Stopped):
        first.resume_listing(stopped.id, listener=StopsAfterOnePage())
    first.close()
    bucket.put_object(Key="b.jpg", Body=b"b")
    with Following(second, source) as following:
        assert following.job is not None
        assert following.job.id == stopped.id
        until(lambda: following.listed() == 2)
        following.label()
        names = [result.uri[-5:] for result in second.results(stopped.id)]
        assert names == ["a.jpg", "b.jpg"]


def test_bucket_that_is_away_for_a_while_is_looked_at_again(
    make_client: Callable[[], Client], bucket: Any
) -> None:
    bucket.put_object(Key="a.jpg", Body=b"a")
    with Following(make_client(), f"s3://{bucket.name}/") as following:
        until(lambda: following.listed() == 1)
        bucket.objects.all().delete()
        bucket.delete()
        until(lambda: following.troubles)
        assert "the bucket is not there" in str(following.troubles[0])
        bucket.create()
        bucket.put_object(Key="b.jpg", Body=b"b")
        until(lambda: following.listed() == 2)


def test_what_cannot_be_followed_is_said(make_client: Callable[[], Client], tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"x")
    client = make_client()
    with pytest.raises(UsageError, match="only folders and buckets can be followed"):
        client.enqueue(str(tmp_path / "one.jpg"), follow=True, every_s=1.0)
    assert client.jobs() == []
    client.close()


def test_of_two_followers_of_a_job_one_is_refused_and_nothing_comes_twice(
    make_client: Callable[[], Client], bucket: Any
) -> None:
    bucket.put_object(Key="a.jpg", Body=b"a")
    source = f"s3://{bucket.name}/"
    with (
        Following(make_client(), source) as first,
        Following(make_client(), source) as second,
    ):
        assert first.job is not None
        until(lambda: first.listed() == 1)
        for n in range(3):
            bucket.put_object(Key=f"new{n}.jpg", Body=b"n")
            until(lambda n=n: first.listed() == n + 2)  # type: ignore[misc]
        until(lambda: first.refusal or second.refusal)
        assert not (first.refusal and second.refusal)
        assert "another producer follows" in first.refusal + second.refusal
        uris = [item.uri for item in first.client.store.ledger.open_items(first.job.id)]
        assert len(uris) == len(set(uris)) == 4


def test_broker_that_fails_after_the_page_was_written_doubles_nothing(
    make_client: Callable[[], Client], bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    fails = [False]
    send = client.broker.send

    def failing(messages: Any) -> None:
        if fails[0]:
            fails[0] = False
            raise BrokerError("away")
        send(messages)

    monkeypatch.setattr(client.broker, "send", failing)
    bucket.put_object(Key="a.jpg", Body=b"a")
    with Following(client, f"s3://{bucket.name}/") as following:
        until(lambda: following.listed() == 1)
        fails[0] = True
        bucket.put_object(Key="b.jpg", Body=b"b")
        until(lambda: following.troubles)
        bucket.put_object(Key="c.jpg", Body=b"c")
        until(lambda: following.listed() == 3)
        items = client.store.ledger.open_items(following.job.id)  # type: ignore[union-attr]
        assert sorted(item.uri[-5:] for item in items) == ["a.jpg", "b.jpg", "c.jpg"]


def test_file_that_is_being_written_is_taken_once_it_is_whole(
    make_client: Callable[[], Client], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    with Following(make_client(), str(folder)) as following:
        until(lambda: following.listed() == 0)
        (folder / "new").mkdir()
        slow = folder / "new" / "slow.jpg"
        looked_at = [0]

        def grows() -> bool:
            looked_at[0] += 1
            with slow.open("ab") as file:
                file.write(b"x")
            return looked_at[0] == 100

        until(grows)
        until(lambda: following.listed() == 1)
        (item,) = following.client.store.ledger.open_items(following.job.id)  # type: ignore[union-attr]
        assert item.version.startswith("100-")


def test_failures_of_a_followed_source_can_be_retried_while_it_is_followed(
    make_client: Callable[[], Client], bucket: Any
) -> None:
    bucket.put_object(Key="a.jpg", Body=b"a")
    with Following(make_client(), f"s3://{bucket.name}/") as following:
        until(lambda: following.listed() == 1)
        following.label(ErrorCode.NOT_FOUND)
        job = following.job
        assert job is not None
        assert following.client.retry(job.id, codes=[ErrorCode.NOT_FOUND]) == 1
        following.label()
        bucket.put_object(Key="b.jpg", Body=b"b")
        until(lambda: following.listed() == 2)
        following.label()
        done = following.client.job(job.id)
        assert (done.state, done.ok, done.failed) == (JobState.LISTING, 2, 0)


def test_following_anew_with_other_options_changes_them(
    make_client: Callable[[], Client], bucket: Any
) -> None:
    source = f"s3://{bucket.name}/"
    client = make_client()
    job = client.store.jobs.create(source=source, model="mobilenet_v2@1", top_k=5, follow_s=99)
    with pytest.raises(UsageError, match="cancel it to begin again"):
        client.enqueue(source, follow=True, again=True)
    with Following(client, source) as following:
        assert following.job is not None
        assert (following.job.id, following.job.follow_s) == (job.id, 0.2)


def test_name_that_is_no_utf8_does_not_end_the_following(
    make_client: Callable[[], Client], tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    with Following(make_client(), str(folder), every_s=1000) as following:
        (folder / "a.jpg").write_bytes(b"a")
        until(lambda: following.listed() == 1)
        Path(os.fsdecode(bytes(folder) + b"/b\xff.jpg")).write_bytes(b"b")
        until(lambda: following.listed() == 2)
        (folder / "c.jpg").write_bytes(b"c")
        until(lambda: following.listed() == 3)
