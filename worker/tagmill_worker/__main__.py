"""``python -m tagmill_worker``: what the light side starts as processes of their own.

``lanes`` runs labelling lanes, ``build`` builds the built-in model. The last line that a failed
command writes says why, after the word ``tagmill:``.
"""

from __future__ import annotations

import argparse
import gc
import sys

from tagmill.errors import ModelUnavailable, TagmillError
from tagmill.registry import open_registry
from tagmill.settings import load_settings


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tagmill_worker")
    commands = parser.add_subparsers(dest="command", required=True)
    lanes = commands.add_parser("lanes")
    lanes.add_argument("--count", type=int, required=True)
    lanes.add_argument("--warm-up")
    commands.add_parser("build")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        if arguments.command == "build":
            from tagmill_worker.builtin import build

            build(open_registry(settings), settings.weights)
            return 0
        gc.disable()  # what is loaded here stays, and lanes share its pages while none looks at it
        from tagmill_worker.app import run_worker

        gc.freeze()
        gc.enable()
        return run_worker(settings, lanes=arguments.count, warm_up=arguments.warm_up)
    except ImportError as error:
        print(  # noqa: T201  # as below
            f"tagmill: lanes need {error.name}: pip install 'tagmill[cpu]'", file=sys.stderr
        )
        return ModelUnavailable.exit_code
    except TagmillError as error:
        print(f"tagmill: {error}", file=sys.stderr)  # noqa: T201  # this is a command
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
