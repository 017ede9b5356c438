"""A source of what an older version of a model labelled: it is read from the store, not listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tagmill.errors import SourceError
from tagmill.registry import ModelVersion
from tagmill.sources import Position, readable
from tagmill.store import Store


class StaleSource:
    """The items of a source that an older version of a model labelled, lowest score first.

    Args:
        name: of the source, which need not be there any more.
        store: that has the labels.
        model: the version that they are to be labelled with.
        until: labels that were made later do not count; seconds since the epoch.
    """

    def __init__(
        self, name: str, *, store: Store, model: ModelVersion, until: float | None = None
    ) -> None:
        self.name = name
        self.passed_over: Counter[str] = Counter()
        self._store = store
        self._model = model
        self._until = until

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """The URI and the version of each.

        Args:
            after: where a listing that broke off stood.

        Raises:
            SourceError: if no version of the model was ever to label that source.
        """
        name, number = self._model.name, self._model.number
        if not self._store.stale.is_known(self.name, name=name):
            raise SourceError(f"nothing in {readable(self.name)} was labelled by {name} before")
        return self._store.stale.items(
            self.name,
            name=name,
            before=number,
            until=self._until,
            after=after.uri if after else None,
            skip=after.n if after else 0,
        )
