"""The doctor against files and packages that are made wrong on purpose, and as a command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import Tagmill
from support.doctor import found, ill, notes, said
from support.polling import missing

from tagmill.doctor import Health, examine
from tagmill.registry import Registry
from tagmill.settings import Settings, load_settings
from tagmill.state_folder import StateFolder


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Read before `no_settings` forgets it."""
    named = os.environ.get("TAGMILL_WEIGHTS")
    if not named:
        missing("TAGMILL_WEIGHTS is not set")
    return Path(named)


@pytest.fixture
def registry(settings: Settings, models: Path) -> Registry:
    """A registry of our own with the built model."""
    folder = Path(str(settings.models))
    shutil.copytree(models, folder)
    return Registry(folder)


def test_registry_that_is_whole_is_well(settings: Settings, registry: Registry) -> None:
    (finding,) = found(settings, "mobilenet_v2@1")
    assert (finding.health, finding.said) == (Health.WELL, f"whole in {registry.place}")


def test_version_that_is_damaged_is_said(settings: Settings, registry: Registry) -> None:
    version = registry.versions()[0]
    with (registry.path(version) / "model.tflite").open("r+b") as file:
        file.truncate(1000)
    assert "its card says" in ill(settings, "mobilenet_v2@1")


def test_labels_and_card_that_disagree_are_said(settings: Settings, registry: Registry) -> None:
    card = registry.path(registry.versions()[0]) / "card.json"
    about = json.loads(card.read_text())
    about["classes"] = 7
    card.write_text(json.dumps(about))
    assert "it has 1,000 labels, its card says 7 classes" in ill(settings, "mobilenet_v2@1")


def test_registry_that_may_not_be_read_is_said(
    settings: Settings, registry: Registry, as_nobody: Callable[[], Any]
) -> None:
    for path in (registry.folder, *registry.folder.rglob("*")):
        path.chmod(0o755)
    for path in registry.folder.parents:
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o111)
    (registry.folder / "mobilenet_v2").chmod(0o700)
    with as_nobody():
        assert "cannot be read: Permission denied" in ill(settings, "model registry")


def test_registry_in_a_bucket_that_is_not_there_or_not_allowed(
    settings: Settings, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = load_settings(**{**settings.model_dump(), "models": f"s3://{bucket.name}/models"})
    assert not ill(there, "S3")
    gone = load_settings(**{**settings.model_dump(), "models": "s3://no-such-bucket-here/models"})
    assert "the bucket is not there" in ill(gone, "S3")
    assert not found(gone, "model registry")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_ACCESS_KEY_ID" in ill(there, "S3")


def test_s3_that_is_away_is_said_and_its_password_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://u:hush@127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert "AWS_ENDPOINT_URL" in notes(settings, "S3"), "nobody named a bucket"
    named = load_settings(**{**settings.model_dump(), "buckets": ("photos",)})
    assert "AWS_ENDPOINT_URL" in ill(named, "S3")


def test_s3_that_nobody_names_is_not_asked(settings: Settings) -> None:
    assert not found(settings, "S3")


def test_weights_are_whole_cut_off_or_something_else(
    settings: Settings, tmp_path: Path, real_weights: Path
) -> None:
    def with_weights(path: Path) -> Settings:
        return load_settings(**{**settings.model_dump(), "weights": path})

    assert not ill(with_weights(real_weights), "weights")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(real_weights.read_bytes()[:5_000_000])
    assert "5,000,000 of its 14,579,240 bytes" in ill(with_weights(cut), "weights")
    other = tmp_path / "other.h5"
    other.write_bytes(
        real_weights.read_bytes().replace(b"block_16_project_BN", b"block_99_project_BN")
    )
    assert "no weights of MobileNetV2" in ill(with_weights(other), "weights")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    assert "is no HDF5 file" in ill(with_weights(text), "weights")
    assert "names a folder" in ill(with_weights(tmp_path), "weights")
    assert "names no file" in ill(with_weights(tmp_path / "none.h5"), "weights")


def test_packages_of_other_versions_are_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ill(settings, "packages")
    assert "celery 5." in said(found(settings, "packages"), Health.WELL)
    monkeypatch.setattr(
        "tagmill.doctor.packages.requires",
        lambda _: ["redis>=99", "no-such-package>=1", "absent>=1; extra == 'x'"],
    )
    told = ill(settings, "packages")
    assert "this release needs >=99" in told
    assert "no-such-package is not installed" in told
    assert "absent" not in told


def test_formats_that_cannot_be_decoded_are_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not notes(settings, "image formats")
    monkeypatch.setattr(
        "tagmill.doctor.packages.features.check", lambda feature: feature not in ("avif", "webp")
    )
    assert "decodes no WebP, AVIF" in notes(settings, "image formats")


def test_state_folder_in_use_of_another_kind_or_not_writable_is_said(
    settings: Settings, tmp_path: Path, as_nobody: Callable[[], Any]
) -> None:
    assert "is made by a run" in notes(settings, "state folder")
    assert not settings.state_dir.exists()
    with StateFolder(settings.state_dir).locked():
        assert "in use by a run" in notes(settings, "state folder")
    assert not notes(settings, "state folder")
    for path in (settings.state_dir, tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o555 & ~0o022)
    with as_nobody():
        told = said([one for one in examine(settings) if one.what == "state folder"], Health.ILL)
    assert "cannot be written by this user" in told
    (settings.state_dir / "format.json").write_text('{"format": 99}')
    assert "has format 99" in ill(settings, "state folder")


def test_command_prints_json_and_ends_with_3_if_something_is_ill(tagmill: Tagmill) -> None:
    lines = tagmill("doctor", "--json").stdout.splitlines()
    findings = [json.loads(line) for line in lines]
    assert {"what", "health", "said", "mend"} == set(findings[0])
    assert all(one["health"] != "fail" for one in findings)
    ill = tagmill("doctor", code=3, TAGMILL_BROKER_URL="redis://:hush@127.0.0.1:1/0")
    assert "nothing listens there" in ill.stdout
    assert "hush" not in ill.stdout + ill.stderr
