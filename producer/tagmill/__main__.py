"""The command ``tagmill``, also as ``python -m tagmill``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while its parts are loaded ends it without a word."""
    try:
        from tagmill.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells have it


if __name__ == "__main__":
    main()
