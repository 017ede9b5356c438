"""What older versions labelled is labelled again, least sure first, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.brokers import valkey
from support.ledger import SUMMARY, outcomes
from support.registries import version_in

from tagmill import Client
from tagmill import enqueue as use_case
from tagmill.contract import ErrorCode, JobState
from tagmill.errors import SourceError, UnknownJob, UsageError
from tagmill.listing import Listener
from tagmill.settings import Settings, load_settings
from tagmill.store import stale as stale_store


@pytest.fixture
def client(store_url: str, settings: Settings, tmp_path: Path) -> Iterator[Client]:
    for number in (1, 2, 3):
        version_in(settings.models_dir, "pets", number)
    with valkey(tmp_path) as port:
        on_valkey = load_settings(
            store_url=store_url,
            broker_url=f"redis://127.0.0.1:{port}/0",
            state_dir=settings.state_dir,
            models=settings.models_dir,
        )
        with Client(on_valkey) as made:
            made.store.aliases.move("pets", 1, why="by hand")
            yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    for n in range(30):
        (made / f"{n:02}.jpg").write_bytes(b"x" * n)
    return made


def label(client: Client, job_id: str) -> list[str]:
    """Label what waits, the first image surest and the last one as `corrupt`; the URIs in order."""
    done = []
    for message in client.store.retries.waiting(job_id):
        claim = client.store.ledger.claim(job_id, message.seq, lane="lane", lease_s=60)
        assert claim is not None
        found = []
        for outcome in outcomes(claim):
            name = outcome.uri.rpartition("/")[2]
            if name == "29.jpg":
                found.append(replace(outcome, status="failed", error=ErrorCode.CORRUPT, labels=()))
                continue
            (best,) = outcome.labels
            found.append(replace(outcome, labels=(replace(best, score=1 - int(name[:2]) / 100),)))
        client.store.ledger.commit(claim, found, SUMMARY)
        done += [item.uri for item in claim.items]
    return done


def models(client: Client, **which: str) -> set[str]:
    return {result.model for result in client.results(**which)}


def test_labels_of_an_older_version_are_made_anew_least_sure_first_and_rolled_back(
    client: Client, folder: Path
) -> None:
    first = client.enqueue(folder, model="pets")
    assert first.model == "pets@1"
    label(client, first.id)
    client.store.aliases.move("pets", 2, why="by hand")
    assert client.job(first.id).model == "pets@1", "which it keeps"
    (folder / "new.jpg").write_bytes(b"new")
    plan = client.plan(str(folder), model="pets", stale=True)
    assert (plan.listed, plan.fresh) == (29, 29)
    again = client.enqueue(folder, model="pets", stale=True)
    assert (again.model, again.stale, again.listed) == ("pets@2", True, 29)
    names = [uri.rpartition("/")[2] for uri in label(client, again.id)]
    assert names == [f"{n:02}.jpg" for n in reversed(range(29))], "neither failed ones nor new ones"
    source = str(folder)
    assert models(client, source=source, model="pets") == {"pets@2"}
    assert models(client, source=source, model="pets@1") == {"pets@1"}
    client.store.aliases.rollback("pets")
    assert models(client, source=source, model="pets") == {"pets@1"}
    assert len(list(client.results(source=source, model="pets"))) == 30
    with pytest.raises(UnknownJob, match="by pets@3"):
        client.newest(source, model="pets@3")


def test_what_the_new_version_labelled_already_is_not_labelled_again(
    client: Client, folder: Path
) -> None:
    label(client, client.enqueue(folder, model="pets@1").id)
    label(client, client.enqueue(folder, model="pets@2", include=["0*"]).id)
    again = client.enqueue(folder, model="pets@2", stale=True)
    assert (again.listed, again.skipped, again.open) == (29, 10, 19)
    label(client, again.id)
    assert client.job(again.id).state is JobState.DONE
    last = client.enqueue(folder, model="pets@3", stale=True)
    assert last.listed == 29, "each once, whoever labelled it"


def test_labels_that_a_job_took_over_count_as_its_own(client: Client, folder: Path) -> None:
    label(client, client.enqueue(folder / "*.jpg", model="pets@1").id)
    taken_over = client.enqueue(folder, model="pets@1")
    assert taken_over.skipped == 30
    assert client.enqueue(folder, model="pets@2", stale=True).listed == 29


def test_listing_of_old_labels_that_broke_off_goes_on(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(client, client.enqueue(folder, model="pets@1").id)
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 7)
    monkeypatch.setattr(stale_store, "_ROWS", 4)

    class Stops(Listener):
        def on_page(self, job: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.enqueue(folder, model="pets@2", stale=True, listener=Stops())
    begun = client.newest()
    monkeypatch.undo()
    (folder / "99.jpg").write_bytes(b"least sure")  # which an older version labels meanwhile
    label(client, client.enqueue(folder, model="pets@1").id)
    job = client.resume_listing(begun.id)
    assert (job.listed, job.state) == (29, JobState.RUNNING)
    names = [uri.rpartition("/")[2] for uri in label(client, job.id)]
    assert names == [f"{n:02}.jpg" for n in reversed(range(29))]


def test_listing_of_old_labels_goes_on_behind_an_item_or_where_it_was(
    client: Client, folder: Path
) -> None:
    label(client, client.enqueue(folder, model="pets@1").id)

    def listed(**how: Any) -> list[str]:
        found = client.store.stale.items(f"file://{folder}", name="pets", before=2, **how)
        return [uri.rpartition("/")[2] for uri, _ in found]

    assert listed() == [f"{n:02}.jpg" for n in reversed(range(29))]
    assert listed(after=f"file://{folder}/03.jpg", skip=9) == ["02.jpg", "01.jpg", "00.jpg"]
    assert listed(after=f"file://{folder}/gone.jpg", skip=27) == ["01.jpg", "00.jpg"]
    assert listed(until=client.store.jobs.now() - 600) == []


def test_where_nothing_is_old_there_is_no_job(client: Client, folder: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing in .* was labelled by pets before"):
        client.enqueue(folder, model="pets@2", stale=True)
    with pytest.raises(UsageError, match="no patterns"):
        client.enqueue(folder, model="pets@2", stale=True, include=["*.jpg"])
    assert client.jobs() == []
    label(client, client.enqueue(folder, model="pets@2").id)
    night = client.enqueue(folder, model="pets@2", stale=True)
    assert (night.listed, night.state) == (0, JobState.DONE), "no better version tonight"
