"""What deploys tagmill is whole: parsed, linted, and every command and variable in it exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from support.polling import missing

from tagmill.celery_app import celery_app
from tagmill.cli import app
from tagmill.settings import Settings, load_settings

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
COMPOSE = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
ONCE = {name for name, one in SERVICES.items() if one.get("restart") == "no"}
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
UNITS = sorted(DEPLOY.glob("*.service"))
LOCKS = sorted(DEPLOY.glob("*.lock"))
CELERY = celery_app(load_settings(broker_url="redis://127.0.0.1"))
SOFT_SHUTDOWN_S = CELERY.conf.worker_soft_shutdown_timeout

PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.?\d*[\w.-]*(@sha256:[0-9a-f]{64})?")
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN|AUTH|_URL")
INTERPOLATED = re.compile(r"\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def tool(name: str) -> str:
    """A tool of the development group, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def assert_exists(words: list[str]) -> None:
    """The command line ``tagmill words`` parses as far as its commands and options go."""
    found: Any = typer.main.get_command(app)
    while words and hasattr(found, "commands"):
        if words[0].startswith("-"):
            break
        assert words[0] in found.commands, f"no command: tagmill {words[0]}"
        found, words = found.commands[words[0]], words[1:]
    known = {option for p in found.params for option in (*p.opts, *p.secondary_opts)}
    known |= {"-h", "--help"}
    assert {word for word in words if word.startswith("-")} <= known, words


def commands_of_compose() -> Iterator[list[str]]:
    for service in OURS.values():
        if "entrypoint" not in service and "command" in service:
            yield service["command"]
        test = service.get("healthcheck", {}).get("test", [])
        if test[:2] == ["CMD", "tagmill"]:
            yield test[2:]


def commands_of_dockerfile(path: Path) -> Iterator[list[str]]:
    for instruction, argument in instructions(path):
        if instruction == "CMD":
            yield json.loads(argument)
        if instruction == "HEALTHCHECK":
            words = json.loads(argument.partition(" CMD ")[2])
            assert words[0] == "tagmill"
            yield words[1:]


def test_every_command_in_the_compose_file_exists() -> None:
    commands = list(commands_of_compose())
    assert commands
    for words in commands:
        assert_exists(words)


@pytest.mark.parametrize("path", DOCKERFILES, ids=names(DOCKERFILES))
def test_every_command_in_a_dockerfile_exists(path: Path) -> None:
    commands = list(commands_of_dockerfile(path))
    assert len(commands) == 2
    for words in commands:
        assert_exists(words)


@pytest.mark.parametrize("path", UNITS, ids=names(UNITS))
def test_every_command_in_a_unit_exists(path: Path) -> None:
    program, *words = shlex.split(re.search(r"^ExecStart=(.+)$", path.read_text(), re.M)[1])
    assert program == "/opt/tagmill/bin/tagmill"
    assert_exists(words)


def test_every_command_in_the_how_to_exists() -> None:
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    ran = re.findall(r"^\$ docker compose run --rm producer (.+)$", page, re.M)
    named = re.findall(r"`tagmill ([^`]+)`", page)
    assert ran
    assert named
    for line in (*ran, *named, *re.findall(r"tagmill-cpu (\w+)$", page, re.M)):
        assert_exists(shlex.split(line))


def test_every_variable_of_tagmill_exists() -> None:
    variables = {f"TAGMILL_{field.upper()}" for field in Settings.model_fields}
    files = [COMPOSE_FILE, REPOSITORY / ".env.example", *DEPLOY.iterdir()]
    for path in files:
        used = set(re.findall(r"TAGMILL_[A-Z0-9_]+", path.read_text(encoding="utf-8")))
        assert used <= variables, path.name


def test_the_compose_file_keeps_to_the_compose_schema() -> None:
    done = subprocess.run(
        [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_docker_compose_reads_the_compose_file() -> None:
    compose = ["docker", "compose"]
    docker = shutil.which("docker")
    if not docker or subprocess.run([*compose, "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    values = {name: "0123abcd" for name, _ in interpolations()}
    done = subprocess.run(
        [*compose, "--file", COMPOSE_FILE, "--profile", "*", "config", "--quiet"],
        env={**os.environ, **values, "S3_PORT": "7070"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_services_of_a_cluster_are_there() -> None:
    assert SERVICES.keys() >= {
        *("valkey", "postgres", "s3", "producer", "worker", "worker-gpu", "trainer", "scheduler")
    }
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    devices = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_or_built_here(name: str) -> None:
    if name in OURS:
        build = OURS[name]["build"]
        assert (REPOSITORY / build["context"] / build["dockerfile"]).is_file()
        lock = build.get("args", {}).get("LOCK", "cpu")
        assert (DEPLOY / f"requirements-{lock}.lock").is_file()
    else:
        assert PINNED.fullmatch(SERVICES[name]["image"])


def test_services_of_one_image_build_it_the_same_way() -> None:
    builds: dict[str, Any] = {}
    for service in OURS.values():
        assert builds.setdefault(service["image"], service["build"]) == service["build"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_unless_it_ends_by_itself(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check == {"disable": True} if name in ONCE else check["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.keys() & {"privileged", "network_mode", "pid", "cap_add"}
    assert str(service.get("user", "root" if name not in OURS else "ours")) not in ("root", "0")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_that_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        ends = "completed_successfully" if other in ONCE else "healthy"
        assert how["condition"] == f"service_{ends}"
        assert "profiles" not in SERVICES[other]


def test_every_volume_that_is_used_is_declared_and_the_other_way_round() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])


def test_a_worker_is_given_longer_to_stop_than_it_takes() -> None:
    for name in ("worker", "worker-gpu", "trainer"):
        assert seconds(SERVICES[name]["stop_grace_period"]) > SOFT_SHUTDOWN_S
        assert SERVICES[name]["init"] is False


def interpolations() -> set[tuple[str, str]]:
    text = json.dumps(SERVICES)
    return {(found["name"], found["rest"]) for found in INTERPOLATED.finditer(text)}


def test_secrets_come_from_outside_and_their_lack_is_said() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if not SECRET.search(name):
                continue
            address = re.fullmatch(r"[\w+]+://(?:[^@/:]*:(?P<password>[^@]+)@)?.*", str(value))
            secret = address["password"] if address else value
            if secret is not None:
                found = INTERPOLATED.fullmatch(secret)
                assert found, name
                assert found["rest"].startswith(":?"), name


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(example) == {name for name, _ in interpolations()}
    for name, rest in interpolations():
        assert example[name] == ("" if rest.startswith(":?") else rest.removeprefix(":-"))


def instructions(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


@pytest.mark.parametrize("path", DOCKERFILES, ids=names(DOCKERFILES))
def test_a_dockerfile_is_without_lint(path: Path) -> None:
    hadolint = tool("hadolint")
    if not Path(hadolint).exists():
        missing("no hadolint here")
    done = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=names(DOCKERFILES))
def test_an_image_is_built_in_stages_from_a_pinned_one(path: Path) -> None:
    stages = [
        argument.split() for instruction, argument in instructions(path) if instruction == "FROM"
    ]
    assert len(stages) > 2
    known: set[str] = set()
    for source, *name in stages:
        assert source in known or PINNED.fullmatch(source)
        known |= set(name[1:])


@pytest.mark.parametrize("path", DOCKERFILES, ids=names(DOCKERFILES))
def test_an_image_runs_as_nobody_in_particular(path: Path) -> None:
    steps = instructions(path)
    final = steps[max(n for n, (instruction, _) in enumerate(steps) if instruction == "FROM") :]
    assert [argument for instruction, argument in final if instruction == "USER"] == ["10001:10001"]
    assert dict(final)["ENTRYPOINT"] == '["tagmill"]'


@pytest.mark.parametrize("path", DOCKERFILES, ids=names(DOCKERFILES))
def test_an_image_takes_only_what_the_repository_has_and_hashes_vouch_for(path: Path) -> None:
    steps = instructions(path)
    assert "ADD" not in dict(steps)
    for instruction, argument in steps:
        if instruction == "COPY" and not argument.startswith("--from="):
            for source in argument.replace("${LOCK}", "cpu").split()[:-1]:
                assert (REPOSITORY / source).exists()
                assert f"!{source.split('/')[0]}" in (REPOSITORY / ".dockerignore").read_text()
        if instruction == "RUN" and "install" in argument and "pip" in argument:
            assert "--require-hashes" in argument or "--no-index" in argument


@pytest.mark.parametrize("path", LOCKS, ids=names(LOCKS))
def test_every_requirement_of_an_image_is_pinned_hashed_and_from_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "-url" not in text
    entries = re.split(r"^(?=\w)", text, flags=re.M)
    for entry in filter(None, entries):
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    ("lock", "extras"), [("cpu", "cpu"), ("train", "cpu train"), ("gpu", "gpu"), ("build", "")]
)
def test_a_lock_has_what_its_image_needs(lock: str, extras: str) -> None:
    tables = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project, groups = tables["project"], tables["dependency-groups"]
    wanted = groups["build"]
    if extras:
        chosen = (*extras.split(), "parquet", "postgres", "s3")
        optional = project["optional-dependencies"]
        wanted = project["dependencies"] + [line for extra in chosen for line in optional[extra]]
    locked = set(
        re.findall(r"^([\w.-]+)", (DEPLOY / f"requirements-{lock}.lock").read_text(), re.M)
    )
    assert {re.split(r"[\[>=; ]", line)[0] for line in wanted} <= locked


def test_the_cpu_image_is_without_tensorflow() -> None:
    assert "tensorflow" not in (DEPLOY / "requirements-cpu.lock").read_text()


@pytest.mark.parametrize("path", UNITS, ids=names(UNITS))
def test_systemd_understands_a_unit(path: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd here")
    unit = tmp_path / path.name
    unit.write_text(path.read_text().replace("/opt/tagmill/bin/tagmill", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    newer = re.compile(r"Unknown key (name )?'Restart(Steps|MaxDelaySec)'")
    said = [line for line in done.stderr.splitlines() if not newer.search(line)]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("path", UNITS, ids=names(UNITS))
def test_a_unit_stops_gently_comes_back_and_is_not_root(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "=" in line and line[0] != "#"]
    keys = dict(line.split("=", 1) for line in lines)
    assert int(keys["TimeoutStopSec"]) > SOFT_SHUTDOWN_S
    assert keys["KillMode"] == "mixed"
    assert keys["Restart"] == "on-failure"
    assert keys["DynamicUser"] == keys["NoNewPrivileges"] == "yes"
    assert keys["EnvironmentFile"] == "/etc/tagmill/tagmill.env"
