"""``python -m tagmill_worker``: what the light side starts as processes of their own.

``worker`` finds the devices and runs a slot for each, ``slot`` is one of those, ``lanes`` runs
the lanes of one run, ``train`` does one training, ``probe`` labels by a version that it made,
``build`` builds the built-in model, ``import`` makes a version of somebody else's, and ``check``
asks after the lanes of this machine. The last line that a failed command writes says why, after
the word ``tagmill:``.
"""

from __future__ import annotations

import argparse
import gc
import sys
from importlib import import_module
from pathlib import Path

from tagmill.errors import MissingError, ModelUnavailable, TagmillError
from tagmill.registry import open_registry
from tagmill.settings import Settings, load_settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tagmill_worker")
    commands = parser.add_subparsers(dest="command", required=True)
    lanes = commands.add_parser("lanes")
    lanes.add_argument("--count", type=int, required=True)
    worker = commands.add_parser("worker")
    worker.add_argument("--queues", required=True)
    worker.add_argument("--gpus", required=True)
    worker.add_argument("--lanes-per-gpu", type=int, required=True)
    slot = commands.add_parser("slot")
    slot.add_argument("queue")
    slot.add_argument("lanes", nargs="+")
    slot.add_argument("--gpu", nargs=4)
    slot.add_argument("--no-control", dest="takes_control", action="store_false")
    for command in (lanes, worker, slot):
        command.add_argument("--warm-up")
    train = commands.add_parser("train")
    train.add_argument("training")
    train.add_argument("--lane", required=True)
    commands.add_parser("build")
    foreign = commands.add_parser("import")
    foreign.add_argument("file", type=Path)
    foreign.add_argument("--name", required=True)
    foreign.add_argument("--labels", type=Path, required=True)
    foreign.add_argument("--geometry", required=True)
    foreign.add_argument("--size", type=int)
    foreign.add_argument("--scaling")
    probe = commands.add_parser("probe")
    probe.add_argument("folder", type=Path)
    check = commands.add_parser("check")
    check.add_argument("what", choices=["ready", "alive"])
    return parser


def main() -> int:
    """Run the command line."""
    try:
        return _run(_parser().parse_args())
    except ImportError as error:
        print(  # noqa: T201  # as below
            f"tagmill: lanes need {error.name}: pip install 'tagmill[cpu]'", file=sys.stderr
        )
        return ModelUnavailable.exit_code
    except TagmillError as error:
        print(f"tagmill: {error}", file=sys.stderr)  # noqa: T201  # this is a command
        return error.exit_code
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"tagmill: {what}{error.strerror or error}", file=sys.stderr)  # noqa: T201  # too
        return MissingError.exit_code


def _run(arguments: argparse.Namespace) -> int:
    settings = load_settings()
    if arguments.command == "check":
        return _check(arguments.what)
    if arguments.command == "build":
        from tagmill_worker.builtin import build

        build(open_registry(settings), settings.weights)
        return 0
    if arguments.command == "import":
        return _import(settings, arguments)
    if arguments.command == "probe":
        from tagmill_worker.training.probing import label_probe

        label_probe(settings, arguments.folder)
        return 0
    if arguments.command == "train":
        from tagmill_worker.training_process import run_training

        run_training(settings, arguments.training, lane=arguments.lane)
        return 0
    from tagmill_worker.slots import Slot, parse_queues, plain_slot

    if arguments.command == "worker":
        from tagmill_worker.machine import run_machine

        return run_machine(
            settings,
            queues=parse_queues(arguments.queues),
            gpus=arguments.gpus,
            lanes_per_gpu=arguments.lanes_per_gpu,
            warm_up=arguments.warm_up,
        )
    gc.disable()  # what is loaded here stays, and lanes share its pages while none looks at it
    from tagmill_worker.app import run_worker
    from tagmill_worker.compressed import refuse_compressed

    gc.freeze()
    gc.enable()
    refuse_compressed()
    if arguments.command == "lanes":
        slot = plain_slot(arguments.count)
    else:
        slot = Slot.parse(
            arguments.queue,
            arguments.lanes,
            arguments.gpu,
            takes_control=arguments.takes_control,
        )
    return run_worker(settings, slot, warm_up=arguments.warm_up)


def _import(settings: Settings, arguments: argparse.Namespace) -> int:
    importing = import_module("tagmill_worker.training.importing")
    foreign = importing.Foreign(
        path=arguments.file,
        labels=arguments.labels,
        size=arguments.size,
        scaling=arguments.scaling,
        geometry=arguments.geometry,
    )
    version = importing.import_classifier(open_registry(settings), arguments.name, foreign)
    print(version)  # noqa: T201  # this is a command
    return 0


def _check(what: str) -> int:
    import time

    from tagmill_worker.lane_files import lane_folder, liveness, readiness

    lanes = lane_folder().at_work()
    is_well, line = readiness(lanes) if what == "ready" else liveness(lanes, time.time())
    print(line)  # noqa: T201  # this is a command
    return 0 if is_well else MissingError.exit_code


if __name__ == "__main__":
    sys.exit(main())
