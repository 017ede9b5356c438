"""A pattern of paths, as a shell would expand it; ``**`` crosses folders."""

from __future__ import annotations

import glob
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

from tagmill.sources.local import file_uri, file_version, path_of
from tagmill.sources.position import Position
from tagmill.sources.selection import Selection


def is_pattern(path: str) -> bool:
    """True where a path holds a wildcard."""
    return glob.has_magic(path)


def fixed_part(pattern: str) -> str:
    """The folder before a pattern's first wildcard."""
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate([*parts, "*"]) if is_pattern(part))
    return "/".join(parts[: min(fixed, len(parts) - 1)]) or "/"


class GlobSource:
    """All files that a pattern matches, in the order of their paths, whatever their suffix.

    Args:
        pattern: absolute.
        leave_out: a folder of which nothing is listed.
        selection: of paths.
    """

    def __init__(self, pattern: str, *, leave_out: str, selection: Selection) -> None:
        self.name = file_uri(pattern)
        self.passed_over: Counter[str] = Counter()
        self._pattern = pattern
        self._selection = selection
        self._left_out = os.path.realpath(leave_out) + "/"

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)``."""
        self.passed_over.clear()
        paths = sorted(glob.iglob(self._pattern, recursive=True))
        if after is not None:
            del paths[: bisect_right(paths, path_of(after.uri))]
        for path in paths:
            if os.path.isdir(path):
                self.passed_over["folder"] += 1
                continue
            if os.path.realpath(path).startswith(self._left_out):
                continue
            if why := self._selection.refusal(path):
                self.passed_over[why] += 1
                continue
            yield file_uri(path), file_version(path)
