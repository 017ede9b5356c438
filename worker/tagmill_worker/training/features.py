"""Vectors of images by a network: from the cache where they are in it, computed where not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagmill.settings import Settings
from tagmill_worker.training.cache import Vector, VectorCache
from tagmill_worker.training.contents import Read
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.extracting import Network, extract

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What a network makes of images.

    Attributes:
        read: one for each image that was asked for, in that order.
        by_digest: a vector for each content that could be read.
        computed: how many were not in the cache.
    """

    read: tuple[Read, ...]
    by_digest: dict[str, Vector]
    computed: int

    def of(self, digests: Sequence[str]) -> Vector:
        """The vectors of contents, as float32 ``(N, C)``."""
        return np.stack([self.by_digest[digest] for digest in digests])


class Features:
    """Computes vectors, and keeps them.

    Args:
        cache: where they are kept.
        settings: limits, roots and how many processes.
        progress: told how many images are done of how many.
        check: called now and then; what it raises ends the work, and what is done is kept.
    """

    def __init__(
        self,
        cache: VectorCache,
        *,
        settings: Settings,
        progress: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> None:
        self._cache = cache
        self._settings = settings
        self._progress = progress
        self._check = check

    def of(self, examples: Sequence[Example], network: Network) -> Vectors:
        """The vectors of images by a network.

        An image whose version is known from an earlier time is not even read.

        Raises:
            MissingError: if an image cannot be read for now.
            StoreFull: if there is no room left for what is computed.
        """
        places = list(dict.fromkeys((example.uri, example.version) for example in examples))
        known = self._cache.digests([place for place in places if place[1]])
        by_digest = self._cache.vectors(network.key, sorted(set(known.values())))
        read = {
            place: Read(digest=digest, version=place[1])
            for place, digest in known.items()
            if digest in by_digest
        }
        missing = [place for place in places if place not in read]
        self._progress(len(read), len(places))
        fresh: set[str] = set()
        for block in extract(
            missing,
            network,
            settings=self._settings,
            cache=self._cache.path,
            check=self._check,
        ):
            self._cache.add(network.key, [one.computed for one in block if one.computed])
            for one in block:
                computed = one.computed
                if computed is None:
                    read[one.place] = Read(error=one.error)
                    continue
                read[one.place] = Read(digest=computed.digest, version=computed.version)
                if computed.vector is None:
                    fresh.add(computed.digest)
                else:
                    by_digest[computed.digest] = computed.vector
            self._progress(len(read), len(places))
        by_digest |= self._cache.vectors(network.key, sorted(fresh - set(by_digest)))
        self._cache.trim()
        log.info(
            "vectors network=%s images=%d computed=%d", network.key[:12], len(places), len(missing)
        )
        return Vectors(
            read=tuple(
                _sound(read[example.uri, example.version], by_digest) for example in examples
            ),
            by_digest=by_digest,
            computed=len(missing),
        )


def _sound(found: Read, by_digest: Mapping[str, Vector]) -> Read:
    if found.error or found.digest in by_digest:
        return found
    return Read(error="what was computed of it was lost: train once more")
