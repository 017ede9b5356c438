"""The command line: wires settings, store and use-cases together, prints, and decides nothing."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import FrameType

import typer

from tagmill.cli import (
    corrections,
    demo,
    doctor,
    enqueue,
    jobs,
    models,
    run,
    schedule,
    train,
    worker,
    workers,
)
from tagmill.errors import MissingError, TagmillError
from tagmill.sources import printable
from tagmill.version import __version__

app = typer.Typer(
    name="tagmill",
    help="Label very many images with MobileNetV2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # frames would take the help over one screen
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed items (--strict), 2 bad usage, 3 missing.",
)
app.command()(run.run)
app.command()(enqueue.enqueue)
app.command()(jobs.status)
app.command()(enqueue.watch)
app.command()(jobs.results)
app.command()(run.retry)
app.command()(jobs.pause)
app.command()(jobs.resume)
app.command()(jobs.cancel)
app.command()(worker.worker)
app.command()(workers.workers)
app.command()(workers.scheduler)
app.command()(train.train)
app.add_typer(corrections.app, name="corrections")
app.add_typer(models.app, name="models")
app.add_typer(schedule.app, name="schedule")
app.command()(doctor.doctor)
app.command()(demo.demo)

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

FAULT = 70
"""The exit code of a fault in the code, as sysexits.h has it."""


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; what goes wrong is one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names hold what a terminal may not show
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except TagmillError as error:
        print(f"tagmill: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        print(f"tagmill: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(MissingError.exit_code)
    except Exception:  # noqa: BLE001  # the outermost boundary
        traceback.print_exc()
        print("tagmill: this is a fault of tagmill's, please report it", file=sys.stderr)
        sys.exit(FAULT)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
