"""A folder and all folders below it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from tagmill.errors import SourceError
from tagmill.sources.local import (
    file_uri,
    file_version,
    has_image_suffix,
    is_same_folder,
    path_of,
    quote,
)
from tagmill.sources.position import Position
from tagmill.sources.selection import Selection

_Entry = tuple[str, bool]
"""A name, and whether it is a folder's."""


class FolderSource:
    """The wanted files in a folder and below, ordered by name in each folder.

    Where no pattern includes any, those with an image's suffix are wanted.

    Links to files are listed; the lane that reads them checks where they lead. Links to folders
    are not followed, so no loop can be walked into. Files are never opened.

    Args:
        path: absolute.
        leave_out: a folder that is not walked into.
        selection: of paths below the folder.

    Attributes:
        path: the folder's.
    """

    def __init__(self, path: str, *, leave_out: str, selection: Selection) -> None:
        self.name = file_uri(path)
        self.passed_over: Counter[str] = Counter()
        self.path = path
        self._leave_out = leave_out
        self._selection = selection

    def item(self, path: str) -> tuple[str, str] | None:
        """What `items` would yield for a file of the folder, ``None`` where it would not.

        Args:
            path: absolute.
        """
        below = path[len(self.path.rstrip("/")) + 1 :]
        left_out = os.path.realpath(self._leave_out) + "/"
        if os.path.realpath(path).startswith(left_out) or not os.path.isfile(path):
            return None
        if self._selection.refusal(below, is_image=has_image_suffix(path)):
            return None
        return file_uri(path), file_version(path)

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)``, depth first; folders wholly before ``after`` are not read.

        Raises:
            SourceError: if the folder itself cannot be read, or ``after`` is no place in it. A
                folder below it that cannot be read is counted.
        """
        self.passed_over.clear()
        stack = self._begun(after)
        while stack:
            folder, entries = stack[-1]
            path_prefix = folder.rstrip("/") + "/"
            uri_prefix = file_uri(path_prefix)
            for name, is_folder in entries:
                path = path_prefix + name
                if not is_folder:
                    yield uri_prefix + quote(name), file_version(path)
                elif not is_same_folder(path, self._leave_out):
                    stack.append((path, iter(self._entries_below(path))))
                    break
            else:
                stack.pop()

    def _begun(self, after: Position | None) -> list[tuple[str, Iterator[_Entry]]]:
        """The folders that the walk is in, outermost first, each with its entries to come."""
        folder = self.path
        parts = self._parts(after) if after is not None else []
        try:
            entries = self._entries(folder)
        except OSError as error:
            raise SourceError(f"{folder}: {error.strerror}") from error
        stack = []
        for part in parts:
            stack.append((folder, iter([entry for entry in entries if entry[0] > part])))
            is_folder = (part, True) in entries
            folder = os.path.join(folder, part)
            entries = self._entries_below(folder) if is_folder else []
            if not is_folder:
                break
        stack.append((folder, iter(entries)))
        return stack

    def _parts(self, position: Position) -> list[str]:
        path, prefix = path_of(position.uri), self.path.rstrip("/") + "/"
        if not path.startswith(prefix):
            raise SourceError(f"{position.uri} is no place in {self.name}")
        return path[len(prefix) :].split("/")

    def _entries_below(self, folder: str) -> list[_Entry]:
        try:
            return self._entries(folder)
        except OSError as error:
            self.passed_over[f"folder not readable ({error.strerror})"] += 1
            return []

    def _entries(self, folder: str) -> list[_Entry]:
        """The folders and the wanted files of a folder by name."""
        found = []
        below = folder[len(self.path.rstrip("/")) + 1 :]
        below = f"{below}/" if below else ""
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    found.append((name, True))
                    continue
                is_image = has_image_suffix(name)
                why = self._selection.refusal(below + name, is_image=is_image)
                if not is_image and _is_folder_link(entry):
                    why = "link to a folder"
                if why:
                    self.passed_over[why] += 1
                else:
                    found.append((name, False))
        found.sort()
        return found


def _is_folder_link(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    try:
        return entry.is_dir()
    except OSError:
        return False
