"""Passwords and keys, which nothing that tagmill writes may show."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench.moto import free_port
from support.brokers import valkey
from support.command import Tagmill

from tagmill.errors import MissingError
from tagmill.registry import open_registry
from tagmill.settings import load_settings

SECRET = "hush"
MOST_S = 30.0

COMMANDS = (
    "run {s3} --no-report",
    "enqueue {s3}",
    "enqueue {folder}",
    "status",
    "status some-job --json",
    "watch some-job",
    "results some-job",
    "results --source {s3} --out {s3}/results.csv",
    "retry some-job",
    "pause some-job",
    "resume some-job",
    "cancel some-job",
    "worker",
    "worker --check ready",
    "workers --json",
    "scheduler --every 0.2",
    "models list",
    "models show pets",
    "models pull",
    "doctor",
    "doctor --json",
    "doctor --migrate",
)


def aws(port: int) -> dict[str, str]:
    """Keys, and an endpoint with a user."""
    return {
        "AWS_ENDPOINT_URL": f"http://user:x@y{SECRET}-endpoint@127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": f"AKIA{SECRET}",
        "AWS_SECRET_ACCESS_KEY": f"{SECRET}-key",
        "AWS_SESSION_TOKEN": f"{SECRET}-token",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "TAGMILL_MODELS": "s3://bucket/models",
    }


@pytest.fixture
def home(tmp_path: Path) -> Tagmill:
    """The command, with lane files of its own and no model."""
    (tmp_path / "home" / "tmp").mkdir(parents=True)
    (tmp_path / "home" / "photos").mkdir()
    (tmp_path / "home" / "photos" / "a.jpg").write_bytes(b"x")
    made = Tagmill(tmp_path / "home", models=tmp_path / "models")
    made.environment |= {"TMPDIR": str(tmp_path / "home" / "tmp")}
    return made


def all_that_is_said(home: Tagmill, line: str, environment: dict[str, str]) -> str:
    """What a command writes until it ends, or until it is told to after a while."""
    words = line.format(s3="s3://bucket/photos", folder=home.home / "photos").split()
    process = subprocess.Popen(
        home.command(*words),
        cwd=home.home,
        env={**home.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=5 if line.startswith("scheduler") else MOST_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    return said


def check_all(
    home: Tagmill, environment: dict[str, str], commands: tuple[str, ...] = COMMANDS
) -> None:
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda line: all_that_is_said(home, line, environment), commands))
    shown = {line: one for line, one in zip(commands, said, strict=True) if SECRET in one}
    assert any(said)
    assert not shown, shown
    assert not any("Traceback" in one for one in said)


def away(broker_url: str, store_url: str) -> dict[str, str]:
    """Services that nobody serves, with secrets in their addresses."""
    port = free_port()
    return {
        **aws(port),
        "TAGMILL_BROKER_URL": broker_url.format(f"{SECRET}-broker", port),
        "TAGMILL_STORE_URL": store_url.format(f"{SECRET}-store", port),
    }


def test_no_command_shows_a_secret_while_services_are_away(home: Tagmill) -> None:
    urls = "redis://user:{}@127.0.0.1:{}/0", "postgresql://user:{}@127.0.0.1:{}/db"
    check_all(home, away(*urls))


@pytest.mark.parametrize(
    ("broker_url", "store_url"),
    [
        ("amqp://user:{}@127.0.0.1:{}//", "postgresql://127.0.0.1:{1}/db?user=u&password={0}"),
        ("rediss://:x@y{}@127.0.0.1:{}/0", "postgresql://user:x@y{}@127.0.0.1:{}/db"),
        ("redis://:{}@127.0.0.1:no-{}/0", "mysql://user:{}@127.0.0.1:{}/db"),
        ("redis://:{}/{}", "postgresql://user:{}/{}/db"),
    ],
)
def test_no_odd_address_is_shown_with_its_secret(
    home: Tagmill, broker_url: str, store_url: str
) -> None:
    commands = ("doctor", "doctor --json", "enqueue {folder}", "status", "worker", "models list")
    check_all(home, away(broker_url, store_url), commands)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://user:{}@127.0.0.1:{}", "http://user:x@y{}@127.0.0.1:{}", "user:{}@h:{}",
        "http://user:x/{}@127.0.0.1:{}", "ftp://user:{}@h:{}", "http://user:{}@h:no-{}",
        "http://[user:{}@h:{}", "http://{}@127.0.0.1:{}",
    ],
)  # fmt: skip
def test_no_odd_endpoint_is_shown_with_its_secret(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.format(SECRET, free_port()))
    monkeypatch.setattr("tagmill.s3.client.ATTEMPTS", 1)
    with pytest.raises(MissingError) as away:
        open_registry(load_settings()).versions()
    assert SECRET not in str(away.value)


@pytest.fixture
def services(
    tmp_path: Path, postgres_url: str, s3_server: dict[str, str]
) -> Iterator[dict[str, str]]:
    """Services that are well, each with a secret by which it is reached."""
    port = int(s3_server["AWS_ENDPOINT_URL"].rpartition(":")[2])
    password = f"{SECRET}-broker"
    with valkey(tmp_path, "--requirepass", password, password=password) as broker:
        yield {
            **aws(port),
            "TAGMILL_S3_PATH_STYLE": "1",
            "TAGMILL_BROKER_URL": f"redis://:{password}@127.0.0.1:{broker}/0",
            "TAGMILL_STORE_URL": postgres_url.replace("@", f":{SECRET}-store@"),
        }


def test_no_command_shows_a_secret_while_services_are_well(
    home: Tagmill, services: dict[str, str]
) -> None:
    home("doctor", "--migrate", **services)
    check_all(home, services)
    found = home("doctor", "--json", code=3, **services).stdout.splitlines()
    healths = {row["what"]: row["health"] for row in map(json.loads, found)}
    assert (healths["broker"], healths["store"]) == ("ok", "ok"), "the secrets were the right ones"


def test_help_shows_no_value_of_the_environment(home: Tagmill, services: dict[str, str]) -> None:
    groups = {line.split()[0] for line in COMMANDS if not line.startswith("models")}
    pages = [[], ["models"], ["models", "list"], *([name] for name in sorted(groups))]
    environment = services | {"TAGMILL_STATE_DIR": f"/{SECRET}", "TAGMILL_OUT": f"{SECRET}.csv"}
    for page in pages:
        assert SECRET not in home(*page, "--help", **environment).stdout


def test_settings_show_no_secret_however_they_are_written_out() -> None:
    settings = load_settings(
        broker_url=f"redis://:{SECRET}@host/0", store_url=f"postgresql://u:{SECRET}@host/d"
    )
    for shown in (
        repr(settings), str(settings), f"{settings}", str(settings.model_dump()),
        settings.model_dump_json(), repr(settings.broker_url), str(vars(settings)),
        repr(settings.model_copy(update={"lanes": 2})),
    ):  # fmt: skip
        assert SECRET not in shown
    assert settings.broker_url is not None
    assert SECRET in settings.broker_url.get_secret_value()
