"""``python -m tagmill`` is the command ``tagmill``."""

from tagmill.cli import main

if __name__ == "__main__":
    main()
