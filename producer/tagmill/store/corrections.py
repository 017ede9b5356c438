"""Corrections: what somebody says that an image shows. They are a dataset, or stand over one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from tagmill.store.database import Database
from tagmill.store.outcomes import insert_for
from tagmill.store.schema import corrections, epoch_now
from tagmill.training import check_own_name, clean_label


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """What somebody says that an image shows.

    Attributes:
        uri: as in `Item`.
        label: a class of the model, or what is to be one.
        corrected_at: seconds since the epoch.
    """

    uri: str
    label: str
    corrected_at: float


class Corrections:
    """The corrections of a store, each for one model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, label: str, uris: Iterable[str]) -> int:
        """Note what images show; what was said of them before is replaced.

        Args:
            name: of the model that is to learn it.
            label: is cleaned.
            uris: of the images.

        Returns:
            How many images that were.

        Raises:
            UnknownModel: if no model can have that name.
            UsageError: if it is a built-in model's.
            SourceError: if the label can be none.
        """
        check_own_name(name)
        said = clean_label(label)
        rows = [{"uri_sha": _sha(uri), "uri": uri} for uri in dict.fromkeys(uris)]
        if not rows:
            return 0
        with self._database.write() as connection:
            insert, met = insert_for(connection, corrections, ("label", "corrected_at"))
            written = insert.values(name=name, label=said, corrected_at=epoch_now())
            key = [corrections.c.name, corrections.c.uri_sha]
            connection.execute(written.on_conflict_do_update(index_elements=key, set_=met), rows)
        return len(rows)

    def remove(self, name: str, uris: Iterable[str]) -> int:
        """Forget what was said of images.

        Returns:
            Of how many of them something was.

        Raises:
            UnknownModel: as `add`; and `UsageError`.
        """
        check_own_name(name)
        with self._database.write() as connection:
            return sum(
                connection.execute(
                    delete(corrections).where(
                        corrections.c.name == name, corrections.c.uri_sha == _sha(uri)
                    )
                ).rowcount
                for uri in dict.fromkeys(uris)
            )

    def all(self, name: str) -> Sequence[Correction]:
        """The corrections for a model, by URI.

        Raises:
            UnknownModel: as `add`; and `UsageError`.
        """
        check_own_name(name)
        columns = (corrections.c[column] for column in Correction.__slots__)
        wanted = select(*columns).where(corrections.c.name == name).order_by(corrections.c.uri)
        with self._database.read() as connection:
            return [Correction(**row._mapping) for row in connection.execute(wanted)]

    def labels(self, name: str) -> dict[str, str]:
        """The labels for a model, by URI."""
        return {found.uri: found.label for found in self.all(name)}


def _sha(uri: str) -> str:
    """Stands for a URI where PostgreSQL's index would find it too long."""
    return hashlib.sha256(uri.encode()).hexdigest()
