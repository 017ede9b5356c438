"""A registry under an S3 prefix: found, fetched, verified, published to, by several at once."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from tagmill.errors import ModelUnavailable, UnknownModel, UsageError, VersionTaken
from tagmill.registry import BucketRegistry, ModelVersion, Registry, open_registry, sha256
from tagmill.registry.bucket import MOST_PUBLISH_S
from tagmill.s3 import S3
from tagmill.settings import load_settings

PETS = ModelVersion(name="pets", number=3)
LABELS = "index,wnid,label\n0,a,cat\n1,b,dog\n"


def built(folder: Path, *, labels: str = LABELS) -> Path:
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text(labels)
    (folder / "model.tflite").write_bytes(b"model")
    card = {
        "name": "pets", "input_size": 224, "geometry": "squash", "resize_ratio": 1.0, "classes": 2,
        "files": {name: sha256(folder / name) for name in ("labels.csv", "model.tflite")},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def stored(bucket: Any, tmp_path: Path) -> Any:
    """The bucket with `pets@3` below `models/`."""
    for path in built(tmp_path / "built").iterdir():
        bucket.upload_file(str(path), f"models/pets/3/{path.name}")
    return bucket


def opened(bucket: Any, state: Path, **settings: object) -> BucketRegistry:
    registry = open_registry(
        load_settings(models=f"s3://{bucket.name}/models", state_dir=state, **settings)
    )
    assert isinstance(registry, BucketRegistry)
    return registry


def s3_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("tagmill.s3.client.ATTEMPTS", 1)


def test_versions_are_found_and_their_files_fetched_once(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.put_object(Key="models/pets/4/model.tflite", Body=b"no card yet")
    stored.put_object(Key="models/Odd/0/card.json", Body=b"{}")
    registry = opened(stored, tmp_path / "state")
    assert registry.versions() == [PETS]
    assert registry.resolve("pets") == PETS
    assert registry.labels(PETS) == [("a", "cat"), ("b", "dog")]
    assert registry.where(PETS) == f"s3://{stored.name}/models/pets/3"
    with pytest.raises(UnknownModel, match="there is 3"):
        registry.resolve("pets@4")
    kept = registry.path(PETS)
    assert sorted(path.name for path in kept.iterdir()) == ["card.json", "labels.csv"]
    s3_is_away(monkeypatch)
    again = opened(stored, tmp_path / "state")
    assert again.resolve("pets@3") == PETS
    assert again.labels(PETS) == registry.labels(PETS)
    with pytest.raises(ModelUnavailable, match="cannot be listed: s3://"):
        again.resolve("pets")
    with pytest.raises(ModelUnavailable, match=r"model\.tflite: reading failed"):
        again.verified_file(PETS, "model.tflite")


def test_registry_may_be_the_bucket_itself(bucket: Any, tmp_path: Path) -> None:
    for path in built(tmp_path / "built").iterdir():
        bucket.upload_file(str(path), f"pets/3/{path.name}")
    for uri in (f"s3://{bucket.name}", f"s3://{bucket.name}/"):
        settings = load_settings(models=uri, state_dir=tmp_path / "s", buckets="photos")
        assert open_registry(settings).resolve("pets") == PETS


@pytest.mark.parametrize("name", ["labels.csv", "card.json"])
def test_what_was_harmed_here_is_fetched_again(stored: Any, tmp_path: Path, name: str) -> None:
    registry = opened(stored, tmp_path / "state")
    registry.labels(PETS)
    (registry.path(PETS) / name).write_bytes(b"harmed")
    assert registry.labels(PETS) == [("a", "cat"), ("b", "dog")]
    assert opened(stored, tmp_path / "state").card(PETS).classes == 2


def test_what_is_wrong_in_s3_is_refused_by_name(stored: Any, tmp_path: Path) -> None:
    stored.put_object(Key="models/pets/3/model.tflite", Body=b"harmed")
    registry = opened(stored, tmp_path / "state")
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match=r"models/pets/3/model\.tflite has SHA-256"):
            registry.verified_file(PETS, "model.tflite")
    stored.Object("models/pets/3/model.tflite").delete()
    with pytest.raises(ModelUnavailable, match="the object is not there"):
        registry.verified_file(PETS, "model.tflite")
    with pytest.raises(ModelUnavailable, match=r"has no model\.keras"):
        registry.verified_file(PETS, "model.keras")


def test_a_card_that_names_a_path_is_refused(stored: Any, tmp_path: Path) -> None:
    card = json.loads((tmp_path / "built" / "card.json").read_text())
    card["files"]["../../x"] = "0"
    stored.put_object(Key="models/pets/3/card.json", Body=json.dumps(card))
    with pytest.raises(ModelUnavailable, match="no name of a file"):
        opened(stored, tmp_path / "state").card(PETS)


def test_lanes_that_fetch_at_once_all_get_it_whole(stored: Any, tmp_path: Path) -> None:
    found: list[bytes] = []

    def fetch() -> None:
        registry = opened(stored, tmp_path / "state")
        found.append(registry.verified_file(PETS, "model.tflite").read_bytes())

    lanes = [threading.Thread(target=fetch) for _ in range(4)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert found == [b"model"] * 4
    names = {path.name for path in opened(stored, tmp_path / "state").path(PETS).iterdir()}
    assert names == {"card.json", "model.tflite"}


@pytest.fixture(params=["folder", "bucket"])
def publishing(
    request: pytest.FixtureRequest, bucket: Any, tmp_path: Path
) -> Callable[[], Registry]:
    """Opens the same registry again and again, of each kind."""
    if request.param == "folder":
        return lambda: Registry(tmp_path / "models")
    return lambda: opened(bucket, tmp_path / "state")


def test_a_published_version_is_there_whole_and_for_ever(
    publishing: Callable[[], Registry], tmp_path: Path
) -> None:
    registry = publishing()
    registry.publish(PETS, built(registry.folder / "built"))
    assert not (registry.folder / "built").exists()
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    assert publishing().versions() == [PETS]
    assert publishing().labels(PETS) == [("a", "cat"), ("b", "dog")]
    other = built(registry.folder / "other", labels=LABELS.replace("cat", "cow"))
    with pytest.raises(VersionTaken, match="pets@3 is in"):
        publishing().publish(PETS, other)
    assert publishing().labels(PETS) == [("a", "cat"), ("b", "dog")]


def test_who_publishes_at_the_same_time_is_waited_for(bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Key="models/pets/3/publishing", Body=b"")
    rival = opened(bucket, tmp_path / "rival")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            bucket.Object("models/pets/3/publishing").delete()
            rival.publish(PETS, built(rival.folder / "built"))

    registry = BucketRegistry(
        f"s3://{bucket.name}/models/", s3=S3(load_settings()), cache=tmp_path, sleep=sleep
    )
    with pytest.raises(VersionTaken):
        registry.publish(PETS, built(registry.folder / "b", labels=LABELS.replace("cat", "cow")))
    assert registry.labels(PETS) == [("a", "cat"), ("b", "dog")]
    assert len(slept) == 3


def test_who_died_while_publishing_is_not_waited_for_for_ever(bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Key="models/pets/3/publishing", Body=b"")
    bucket.put_object(Key="models/pets/3/model.tflite", Body=b"half")
    slept: list[float] = []
    registry = BucketRegistry(
        f"s3://{bucket.name}/models", s3=S3(load_settings()), cache=tmp_path, sleep=slept.append
    )
    registry.publish(PETS, built(registry.folder / "built"))
    assert sum(slept) == MOST_PUBLISH_S
    assert {found.key for found in bucket.objects.all()} == {
        f"models/pets/3/{name}" for name in ("card.json", "labels.csv", "model.tflite")
    }


def test_a_bucket_that_may_not_be_written_is_said(bucket: Any, tmp_path: Path) -> None:
    s3 = S3(load_settings())
    registry = BucketRegistry(f"s3://{bucket.name}/models", s3=s3, cache=tmp_path)
    ready = built(registry.folder / "built")
    with Stubber(s3._client) as stub:
        stub.add_client_error("head_object", "404", "Not Found", 404)
        stub.add_client_error("put_object", "AccessDenied", "not yours", 403)
        with pytest.raises(ModelUnavailable, match=r"models/pets/3 cannot be written: access den"):
            registry.publish(PETS, ready)


def test_a_registry_that_names_no_bucket_is_said() -> None:
    with pytest.raises(UsageError, match=r"TAGMILL_MODELS: 's3:/x' names no bucket"):
        open_registry(load_settings(models="s3:/x"))
