"""The command line: wires settings, store and use-cases together, prints, and decides nothing."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import typer

from tagmill import __version__
from tagmill.cli import doctor, jobs, models, run
from tagmill.errors import TagmillError

app = typer.Typer(
    name="tagmill",
    help="Label very many images with MobileNetV2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(jobs.status)
app.command()(jobs.results)
app.command()(run.retry)
app.command()(jobs.cancel)
app.add_typer(models.app, name="models")
app.command()(doctor.doctor)

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; every error that tagmill raises on purpose is one line and a code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except TagmillError as error:
        print(f"tagmill: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
