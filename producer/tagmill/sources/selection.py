"""Which of a source's items are wanted, by patterns as ``aws s3`` takes them."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Patterns for the names of items: ``*`` and ``?`` (which cross ``/``), ``[ab]``, ``[!ab]``.

    A name is relative to its source: the path below a folder, the key below a prefix. Of patterns
    and manifests it is the whole path, or the URI of an object.

    Attributes:
        include: where any is given, only what one of them matches is wanted, whatever its suffix.
        exclude: what one of them matches is not wanted, included or not.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def refusal(self, name: str, *, is_image: bool = True) -> str:
        """Why an item is left out; empty where it is wanted.

        Args:
            name: the item's, relative to its source.
            is_image: what is to hold where no pattern includes anything.
        """
        include, exclude = self._compiled
        if exclude is not None and exclude.match(name):
            return "excluded"
        if include is not None:
            return "" if include.match(name) else "not included"
        return "" if is_image else "no image suffix"

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        return _any_of(self.include), _any_of(self.exclude)


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None
