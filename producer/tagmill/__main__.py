"""The command ``tagmill``, also as ``python -m tagmill``."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; Ctrl-C while its parts are loaded ends it without a word."""
    try:
        gc.disable()  # what is loaded here stays: looking for garbage in it takes a tenth longer
        from tagmill.cli import main as run

        gc.freeze()
        gc.enable()
        run()
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells have it


if __name__ == "__main__":
    main()
