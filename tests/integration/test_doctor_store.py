"""The doctor against stores and ledgers that are made wrong on purpose."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from support.brokers import valkey
from support.doctor import found, ill, notes, said, with_broker, with_store
from support.ledger import claim, ended, job_with

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.doctor import Health
from tagmill.doctor.store import file_system_of, look_at_store
from tagmill.settings import Settings
from tagmill.store import LaneNote, LaneState, Store
from tagmill.store.schedules import ScheduleKind
from tagmill.training import TrainingRequest
from tagmill.version import __version__


def test_sound_postgresql_is_well(settings: Settings, postgres_url: str) -> None:
    there = with_store(settings, postgres_url)
    assert "tagmill doctor --migrate" in notes(there, "store")
    with closing(Store(there.store_address)) as store:
        with store.database.read() as connection:
            assert not sqlalchemy.inspect(connection).get_table_names(), "the doctor made tables"
        store.prepare()
    assert not [one for one in found(there, "store") if one.health is not Health.WELL]


def test_postgresql_that_cannot_be_used_is_said_with_the_reason(
    settings: Settings, postgres_url: str
) -> None:
    url = sqlalchemy.make_url(postgres_url)
    for changes, words in (
        ({"database": "no_such_database"}, "createdb no_such_database"),
        ({"username": "no_such_user"}, "no such user"),
        ({"port": 1}, "nothing listens there"),
        ({"host": "no-such-host.invalid"}, "nobody knows its host's name"),
    ):
        wrong = url.set(password="hush", **changes).render_as_string(hide_password=False)
        assert words in ill(with_store(settings, wrong), "store"), words


def test_user_who_may_not_make_or_write_tables_is_said(
    settings: Settings, postgres_url: str
) -> None:
    name = f"doctor_{os.getpid()}"
    url = sqlalchemy.make_url(postgres_url)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")

    def owner(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(statement))

    owner(f"CREATE ROLE {name} LOGIN PASSWORD 'hush'")
    try:
        owner("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        own = url.set(username=name, password="hush").render_as_string(hide_password=False)
        there = with_store(settings, own)
        assert "may not make tables" in ill(there, "store")
        with closing(Store(postgres_url)) as store:
            store.prepare()
        owner(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        assert "may not read and write jobs" in ill(there, "store")
        owner(f"ALTER ROLE {name} SET default_transaction_read_only = on")
        assert "read-only" in ill(there, "store")
    finally:
        owner(f"DROP OWNED BY {name}")
        owner(f"DROP ROLE {name}")
        engine.dispose()


def test_postgresql_that_gives_no_answer_is_said_within_seconds(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:hush@127.0.0.1:{silent.getsockname()[1]}/db"
        began = time.monotonic()
        assert "no answer within 3 s" in ill(with_store(settings, url), "store")
        assert time.monotonic() - began < 20


def test_schema_of_another_release_is_said(settings: Settings, store_url: str) -> None:
    there = with_store(settings, store_url)
    made = Store(there.store_address)
    made.prepare()
    for revision, look in (("0001", notes), ("9999", ill)):
        with made.database.write() as connection:
            connection.execute(
                sqlalchemy.text("UPDATE alembic_version SET version_num = :v"), {"v": revision}
            )
        assert f"schema {revision}" in look(there, "store")
    made.close()


def test_file_that_is_no_database_is_said(settings: Settings) -> None:
    settings.state_dir.mkdir()
    (settings.state_dir / "tagmill.db").write_text("no database " * 100)
    assert "not a database" in ill(settings, "store")


def test_sqlite_on_a_network_file_system_is_said(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    far = tmp_path / "far away"
    far.mkdir()
    escaped = str(far).replace(" ", "\\040")
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nhost:/x {escaped} nfs4 rw 0 0\n")
    assert file_system_of(far / "tagmill.db", mounts) == "nfs4"
    assert file_system_of(tmp_path / "far", mounts) == "ext4"
    assert file_system_of(tmp_path), "that of this machine"
    monkeypatch.setattr("tagmill.doctor.store.file_system_of", lambda _: "fuse.sshfs")
    assert "network file system (fuse.sshfs)" in said(
        look_at_store(settings, now=time.time).findings, Health.ILL
    )
    monkeypatch.setattr("tagmill.doctor.store.file_system_of", lambda _: "fuse.fuse-overlayfs")
    assert not said(look_at_store(settings, now=time.time).findings, Health.ILL)


@pytest.fixture
def cluster(settings: Settings, store_url: str, tmp_path: Path) -> Iterator[Settings]:
    """A broker without messages and a store of each kind."""
    with valkey(tmp_path, "--appendonly", "yes") as port:
        there = with_store(with_broker(settings, f"redis://127.0.0.1:{port}/0"), store_url)
        made = Store(there.store_address)
        made.prepare()
        made.close()
        yield there


def lane(store: Store, name: str) -> None:
    note = LaneNote(name=name, pid=1, device="cpu 0", state=LaneState.IDLE, release=__version__)
    store.lanes.note(note, lease_s=60)


def test_chunks_that_nobody_ticks_for_are_said(cluster: Settings) -> None:
    store = Store(cluster.store_address)
    job = job_with(store, 1, 1)
    claim(store, job)
    assert "1 wait for a lane, and the broker has no message of them" in notes(cluster, "chunks")
    broker = Broker(cluster)
    broker.send([ChunkMessage(job=job.id, seq=1)])
    broker.close()
    assert not notes(cluster, "chunks")
    with store.database.write() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE chunks SET lease_until = lease_until - 300 WHERE seq = 0")
        )
    told = notes(cluster, "chunks")
    assert "the time of 1 is over" in told
    assert "tagmill worker, and tagmill scheduler" in told
    lane(store, "label-cpu0@h")
    assert "→ tagmill scheduler" in notes(cluster, "chunks")
    store.close()


def test_paused_jobs_and_missing_lanes_are_said(cluster: Settings) -> None:
    store = Store(cluster.store_address)
    job = job_with(store, 1)
    ended(store, job)
    assert not found(cluster, "jobs")
    assert "tagmill worker" in notes(cluster, "lanes")
    lane(store, "label-cpu0@h")
    assert not notes(cluster, "lanes")
    waiting = job_with(store, 1)
    store.jobs.pause(waiting.id, "model m@1 is not there")
    told = notes(cluster, "jobs")
    assert f"{waiting.id} is paused since model m@1 is not there" in told
    assert f"tagmill resume {waiting.id}" in told
    store.close()


def test_chunks_that_wait_where_lanes_train_only_are_said(cluster: Settings) -> None:
    store = Store(cluster.store_address)
    lane(store, "train-cpu0@h")
    assert "no lane that labels" not in str(found(cluster, "lanes"))
    job_with(store, 1, 1)
    assert "no lane that labels is alive → tagmill worker" in notes(cluster, "lanes")
    lane(store, "label-cpu0@h")
    assert "no lane that labels" not in str(found(cluster, "lanes"))
    store.close()


def test_lanes_of_another_release_are_said(cluster: Settings) -> None:
    store = Store(cluster.store_address)
    note = LaneNote(name="old@h", pid=1, device="", state=LaneState.IDLE, release="0.0.1")
    store.lanes.note(note, lease_s=60)
    older = LaneNote(name="older@h", pid=1, device="", state=LaneState.IDLE)
    store.lanes.note(older, lease_s=60)
    assert "old@h (0.0.1), older@h (an older one)" in notes(cluster, "lanes")
    store.close()


def test_trainings_that_nobody_does_and_schedules_that_nobody_fires_are_said(
    cluster: Settings,
) -> None:
    store = Store(cluster.store_address)
    lane(store, "label-cpu0@h")
    assert not [*found(cluster, "trainings"), *found(cluster, "schedules")]
    request = TrainingRequest(name="pets", dataset="file:///pets")
    store.trainings.create(request)
    assert "1 wait, and no lane that trains is alive" in notes(cluster, "trainings")
    lane(store, "train-cpu0@h")
    assert not found(cluster, "trainings")
    store.schedules.add(
        "nightly", cron="0 2 * * *", zone="UTC", kind=ScheduleKind.TRAIN, request=request.dump(),
        next_at=store.jobs.now() - 300,
    )  # fmt: skip
    assert "1 were due and did not fire: nightly → tagmill scheduler" in notes(cluster, "schedules")
    store.close()
