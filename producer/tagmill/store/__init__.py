"""The results store and its ledger, on SQLite or PostgreSQL."""

from __future__ import annotations

from tagmill.store.database import Database
from tagmill.store.jobs import Job, Jobs
from tagmill.store.ledger import Ledger, Page
from tagmill.store.outcomes import Known, Outcomes, Result
from tagmill.store.retries import Retries

__all__ = [
    "Database",
    "Job",
    "Jobs",
    "Known",
    "Ledger",
    "Outcomes",
    "Page",
    "Result",
    "Retries",
    "Store",
]


class Store:
    """A store by its SQLAlchemy URL. Nothing is opened before the first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``.

    Attributes:
        jobs: what was asked for.
        ledger: chunks, claims and commits.
        outcomes: what became of the items.
        retries: chunks to be done once more.

    Raises:
        StoreError: if the URL names no database that this installation can talk to.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.jobs = Jobs(self.database)
        self.ledger = Ledger(self.database)
        self.outcomes = Outcomes(self.database)
        self.retries = Retries(self.database)

    def prepare(self) -> None:
        """Create the schema, or bring an older one up to date.

        Raises:
            StoreError: if the database was written by a newer release or cannot be reached.
        """
        self.database.prepare()

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
