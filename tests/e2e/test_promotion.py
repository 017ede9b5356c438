"""A version is promoted and rolled back while workers run: no restart, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.brokers import valkey
from support.command import Tagmill
from support.worker import Worker


@pytest.fixture
def two_versions(cluster: Tagmill, models: Path, tmp_path: Path, postgres_url: str) -> Tagmill:
    """A cluster's settings with two versions of a model, alike but for their numbers."""
    registry = tmp_path / "registry"
    for number in (1, 2):
        shutil.copytree(models / "mobilenet_v2" / "1", registry / "twin" / str(number))
    cluster.environment |= {"TAGMILL_MODELS": str(registry), "TAGMILL_STORE_URL": postgres_url}
    return cluster


def said_by(cluster: Tagmill, *which: object) -> dict[str, set[str]]:
    """The URIs of some results by the version that said them."""
    found: dict[str, set[str]] = {}
    for line in cluster("results", *which).stdout.splitlines():
        row = json.loads(line)
        found.setdefault(row["model"], set()).add(row["uri"])
    return found


def test_jobs_keep_their_version_and_new_ones_take_the_new_one(
    two_versions: Tagmill, photos: list[Path], tmp_path: Path
) -> None:
    command = two_versions
    folder = command.home / "photos"
    folder.mkdir()
    for photo in photos[:40]:
        (folder / photo.name).symlink_to(photo)
    with valkey(tmp_path) as port:
        command.environment |= {"TAGMILL_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        command("models", "promote", "twin@1")
        with Worker(command, "--lanes", 1, "--root", "/", "--model", "twin") as worker:
            pids = [lane.pid for lane in worker.await_lanes(1)]
            old = command("enqueue", folder, "--model", "twin").stdout.strip()
            command("models", "promote", "twin@2")
            new = command("enqueue", folder, "--model", "twin", "--again").stdout.strip()
            for job in (old, new):
                command("watch", job, "--strict")
            assert [lane.pid for lane in worker.lanes()] == pids, "no lane was restarted"
        everything = {path.as_uri() for path in folder.iterdir()}
        assert said_by(command, old) == {"twin@1": everything}
        assert said_by(command, new) == {"twin@2": everything}
        which = ("--source", folder, "--model", "twin")
        assert said_by(command, *which) == {"twin@2": everything}
        command("models", "rollback", "twin")
        assert said_by(command, *which) == {"twin@1": everything}
