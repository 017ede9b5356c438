"""The docs say what the code does: commands, options, variables, codes, settings, links."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from bench.__main__ import ALL, BY_NAME

from tagmill.cli import app
from tagmill.contract import ErrorCode
from tagmill.errors import MissingError, UsageError
from tagmill.export import COLUMNS
from tagmill.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("bench/*.md")]
)
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
CLI = typer.main.get_command(app)


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def command(words: list[str]) -> tuple[object, list[str]]:
    """The command that words name, and the words that are left."""
    found: object = CLI
    while words and hasattr(found, "commands"):
        assert words[0] in found.commands, f"no command {words[0]}"
        found, words = found.commands[words[0]], words[1:]
    return found, words


def parameters(found: object) -> list[object]:
    below = getattr(found, "commands", {}).values()
    return [*found.params, *(p for one in below for p in parameters(one))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_a_page_names_exists_with_its_options(name: str) -> None:
    for line in re.findall(r"^\$ tagmill (.+)$", text(name), re.MULTILINE):
        found, rest = command(line.split("#")[0].split())
        known = {option for p in found.params for option in p.opts}  # type: ignore[attr-defined]
        assert {word for word in rest if word.startswith("-")} <= known, line
    for words in re.findall(r"`tagmill ([a-z |]+)", text(name)):
        command(words.split("|")[0].split())


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_that_a_page_names_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z]+)", text(name))) <= targets


@pytest.mark.parametrize("name", NAMES)
def test_every_link_between_pages_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", text(name)):
        if not target.startswith("http"):
            assert (REPOSITORY / name).parent.joinpath(target).exists(), target


def test_every_variable_that_a_page_names_exists_and_every_one_is_documented() -> None:
    options = {p.envvar for p in parameters(CLI) if getattr(p, "envvar", None)}
    variables = options | {f"TAGMILL_{field.upper()}" for field in Settings.model_fields}
    assert set(re.findall(r"TAGMILL_[A-Z0-9_]+", text("docs/settings.md"))) == variables
    for name in NAMES:
        assert set(re.findall(r"TAGMILL_[A-Z0-9_]+", text(name))) <= variables, name


def test_every_option_has_a_variable() -> None:
    without = {
        option
        for parameter in parameters(CLI)
        for option in parameter.opts  # type: ignore[attr-defined]
        if option.startswith("--") and not parameter.envvar  # type: ignore[attr-defined]
    }
    assert without == {"--version"}


def test_the_table_of_settings_is_todays() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "docs" / "make_settings.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stderr}: make docs"


def test_every_error_code_column_and_exit_code_is_documented() -> None:
    page = text("docs/run.md")
    for code in ErrorCode:
        assert f"| `{code}` |" in page
    for column in COLUMNS:
        assert f"`{column}`" in page
    for exit_code in (UsageError.exit_code, MissingError.exit_code):
        assert f"\n| {exit_code} |" in page


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        project["dependency-groups"]["dev"],
    ]
    wanted = [line for group in groups for line in group]
    names = {re.split(r"[\[>=; ]", line)[0] for line in wanted}
    page = text("docs/dependencies.md")
    for name in names - {"tensorflow-cpu", "types-psutil", "tagmill"}:
        assert re.search(rf"^\|.*\b{re.escape(name)}\b", page, re.MULTILINE), name


def test_every_benchmark_is_on_its_page() -> None:
    page = text("bench/README.md")
    for name in (*ALL, *BY_NAME):
        assert f"`python -m bench {name}`" in page
