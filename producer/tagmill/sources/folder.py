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
    quote,
)


class FolderSource:
    """Every file with an image's suffix in a folder and below, ordered by name in each folder.

    Links to files are listed; the lane that reads them checks where they lead. Links to folders
    are not followed, so no loop can be walked into. Files are never opened.

    Args:
        path: absolute.
        leave_out: a folder that is not walked into.
    """

    def __init__(self, path: str, *, leave_out: str) -> None:
        self.name = file_uri(path)
        self.passed_over: Counter[str] = Counter()
        self._path = path
        self._leave_out = leave_out

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)``, depth first.

        Raises:
            SourceError: if the folder itself cannot be read; one below it is counted.
        """
        self.passed_over.clear()
        try:
            stack = [(self._path, self._entries(self._path))]
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror}") from error
        while stack:
            folder, entries = stack[-1]
            path_prefix = folder.rstrip("/") + "/"
            uri_prefix = file_uri(path_prefix)
            for name, is_folder in entries:
                path = path_prefix + name
                if not is_folder:
                    if has_image_suffix(name):
                        yield uri_prefix + quote(name), file_version(path)
                elif not is_same_folder(path, self._leave_out):
                    try:
                        stack.append((path, self._entries(path)))
                    except OSError as error:
                        self.passed_over[f"folder not readable ({error.strerror})"] += 1
                    else:
                        break
            else:
                stack.pop()

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """The entries of a folder by name, as (name, is a folder)."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                found.append((entry.name, is_folder))
                if not is_folder and not has_image_suffix(entry.name):
                    kind = "link to a folder" if _is_folder_link(entry) else "no image suffix"
                    self.passed_over[kind] += 1
        found.sort()
        return iter(found)


def _is_folder_link(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    try:
        return entry.is_dir()
    except OSError:
        return False
