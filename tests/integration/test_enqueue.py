from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tagmill import enqueue as use_case
from tagmill.contract import ChunkMessage, ChunkSummary, JobState, Outcome, Status
from tagmill.enqueue import PAGE_ITEMS, enqueue, plan
from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.sources import open_source
from tagmill.store import Job, Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(50):
        (photos / f"{n:02}.jpg").write_bytes(b"x" * n)
    return photos


def listed(store: Store, folder: Path, **asked: float | None) -> tuple[Job, list[ChunkMessage]]:
    source = open_source(str(folder), leave_out=Path("/nowhere"), s3=S3(load_settings()))
    job = store.jobs.create(source=source.name, model="m@1", top_k=5, **asked)
    sent: list[ChunkMessage] = []

    def send(messages: Sequence[ChunkMessage]) -> None:
        sent.extend(messages)

    enqueue(source.items(), job, store=store, send=send, lanes=2, chunk_items=10)
    return store.jobs.get(job.id), sent


def label(store: Store, messages: Sequence[ChunkMessage]) -> None:
    for message in messages:
        claim = store.ledger.claim(message.job, message.seq, lane="l", lease_s=9)
        assert claim is not None
        done = [
            Outcome(n=item.n, uri=item.uri, version=item.version, status=Status.OK)
            for item in claim.items
        ]
        store.ledger.commit(claim, done, ChunkSummary(lane="l"))


def test_every_file_is_in_one_chunk_and_every_chunk_has_its_message(
    store: Store, folder: Path
) -> None:
    job, sent = listed(store, folder)
    assert (job.state, job.listed, job.chunks) == (JobState.RUNNING, 50, len(sent))
    label(store, sent)
    results = list(store.outcomes.results(job.id))
    assert [result.n for result in results] == list(range(50))
    assert [result.uri[-6:] for result in results] == [f"{n:02}.jpg" for n in range(50)]


def test_pages_are_listed_without_loss(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 7)
    job, sent = listed(store, folder)
    label(store, sent)
    assert store.jobs.get(job.id).state is JobState.DONE
    assert len(list(store.outcomes.results(job.id))) == 50
    assert PAGE_ITEMS > 7


def test_next_job_labels_what_is_new_or_changed(store: Store, folder: Path) -> None:
    _, sent = listed(store, folder)
    label(store, sent)
    (folder / "00.jpg").write_bytes(b"changed")
    (folder / "new.jpg").write_bytes(b"new")
    (folder / "49.jpg").unlink()
    source = open_source(str(folder), leave_out=Path("/nowhere"), s3=S3(load_settings()))
    counted = plan(source, store=store, model="m@1", top_k=5, fresh_since=0.0)
    assert (counted.listed, counted.skipped, counted.fresh, counted.fresh_bytes) == (50, 48, 2, 10)
    second, sent = listed(store, folder)
    assert (second.listed, second.skipped, second.open) == (50, 48, 2)
    label(store, sent)
    assert len(list(store.outcomes.results(second.id))) == 50
    third, sent = listed(store, folder)
    assert (third.state, third.skipped, sent) == (JobState.DONE, 50, [])
    afresh, _ = listed(store, folder, fresh_since=None)
    assert (afresh.skipped, afresh.open) == (0, 50)


def test_listing_that_breaks_off_leaves_what_it_wrote(store: Store) -> None:
    def breaking() -> Iterator[tuple[str, str]]:
        for n in range(2 * PAGE_ITEMS + 5):
            yield f"file:///x/{n}.jpg", "1-1"
        raise RuntimeError("the disk went away")

    job = store.jobs.create(source="file:///x", model="m@1", top_k=5)
    sent: list[ChunkMessage] = []
    with pytest.raises(RuntimeError):
        enqueue(breaking(), job, store=store, send=sent.extend, lanes=2, chunk_items=256)
    there = store.jobs.get(job.id)
    assert there.state is JobState.LISTING
    assert there.listed == PAGE_ITEMS
    assert len(sent) == there.chunks
