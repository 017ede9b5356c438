"""A worker's log and the outcomes that it writes, which show no password and no key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from support.brokers import valkey
from support.command import Tagmill
from support.polling import until
from support.worker import Worker

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.settings import load_settings

SECRET = "hush"


@contextmanager
def shut(url: str) -> Iterator[None]:
    """A database of our own takes no connection, and has none."""
    parsed = sqlalchemy.make_url(url)
    engine = sqlalchemy.create_engine(parsed.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:

        def run(statement: str) -> None:
            connection.execute(sqlalchemy.text(statement), {"name": parsed.database})

        run(f"ALTER DATABASE {parsed.database} ALLOW_CONNECTIONS false")
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        try:
            yield
        finally:
            run(f"ALTER DATABASE {parsed.database} ALLOW_CONNECTIONS true")
    engine.dispose()


def test_a_workers_log_shows_no_secret_while_its_services_come_and_go(
    tagmill: Tagmill,
    tmp_path: Path,
    postgres_url: str,
    s3_server: dict[str, str],
    bucket: Any,
    photos: list[Path],
) -> None:
    for name in ("tmp", "photos", "broker"):
        (tmp_path / name).mkdir()
    for photo in photos[:40]:
        shutil.copyfile(photo, tmp_path / "photos" / photo.name)
        bucket.upload_file(str(photo), f"in/{photo.name}")
    (tmp_path / "list.txt").write_text(f"s3://{bucket.name}/gone.jpg\n/etc/passwd\n")
    password = f"{SECRET}-broker"
    with valkey(tmp_path / "broker", "--requirepass", password, password=password) as port:
        tagmill.environment |= {
            "TMPDIR": str(tmp_path / "tmp"),
            "TAGMILL_BROKER_URL": f"redis://:{password}@127.0.0.1:{port}/0",
            "TAGMILL_STORE_URL": postgres_url.replace("@", f":{SECRET}-store@"),
            "TAGMILL_S3_PATH_STYLE": "1",
            "AWS_ENDPOINT_URL": s3_server["AWS_ENDPOINT_URL"].replace("//", f"//u:{SECRET}@"),
            "AWS_ACCESS_KEY_ID": f"AKIA{SECRET}",
            "AWS_SECRET_ACCESS_KEY": f"{SECRET}-key",
            "AWS_SESSION_TOKEN": f"{SECRET}-token",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with Worker(tagmill, "--lanes", 1, "--root", tmp_path / "photos") as worker:
            worker.await_lanes(1)
            shown = []
            for source in (f"s3://{bucket.name}/in/", tmp_path / "list.txt", tmp_path / "photos"):
                job = tagmill("enqueue", source).stdout.strip()
                tagmill("watch", job)
                shown += [tagmill("results", job).stdout, tagmill("status", job, "--json").stdout]
            rows = [json.loads(line) for line in "".join(shown[::2]).splitlines()]
            assert [row["status"] for row in rows].count("ok") == 80
            assert {row["error"] for row in rows} == {None, "not_found", "outside_roots"}
            with shut(postgres_url):
                sender = Broker(load_settings(broker_url=tagmill.environment["TAGMILL_BROKER_URL"]))
                sender.send([ChunkMessage(job="none", seq=0)])
                sender.close()
                until(lambda: "the store" in worker.log())
    with Worker(tagmill, "--lanes", 1) as alone:  # its broker is away
        until(lambda: "onnect" in alone.log() or not alone._runs(), within_s=120)
        alone.kill()
    assert SECRET not in worker.log()
    assert SECRET not in alone.log()
    assert SECRET not in "".join(shown)
