"""The results store and its ledger, on SQLite or PostgreSQL."""

from __future__ import annotations

from tagmill.store.aliases import Aliases, Move
from tagmill.store.corrections import Correction, Corrections
from tagmill.store.database import Database
from tagmill.store.jobs import Job, Jobs
from tagmill.store.lanes import LaneNote, Lanes, LaneState
from tagmill.store.ledger import Ledger, Page
from tagmill.store.losses import Losses
from tagmill.store.outcomes import Known, Outcomes, Result
from tagmill.store.retries import Retries
from tagmill.store.schedules import Schedule, Schedules
from tagmill.store.stale import Stale
from tagmill.store.training_claims import ClaimedTraining, TrainingClaims
from tagmill.store.trainings import Training, Trainings

__all__ = [
    "Aliases",
    "ClaimedTraining",
    "Correction",
    "Corrections",
    "Database",
    "Job",
    "Jobs",
    "Known",
    "LaneNote",
    "LaneState",
    "Lanes",
    "Ledger",
    "Losses",
    "Move",
    "Outcomes",
    "Page",
    "Result",
    "Retries",
    "Schedule",
    "Schedules",
    "Stale",
    "Store",
    "Training",
    "TrainingClaims",
    "Trainings",
]


class Store:
    """A store by its SQLAlchemy URL. Nothing is opened before the first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``.

    Attributes:
        jobs: what was asked for.
        ledger: chunks, claims and commits.
        losses: chunks whose lane was lost.
        outcomes: what became of the items.
        retries: chunks to be done once more.
        lanes: who is alive, and doing what.
        trainings: what was asked to be trained, and what came of it.
        training_claims: who may do a training.
        aliases: which versions are meant by names that move.
        corrections: what somebody says that images show.
        stale: what an older version of a model labelled.
        schedules: what becomes a training or a job by itself.

    Raises:
        StoreError: if the URL names no database that this installation can talk to.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.jobs = Jobs(self.database)
        self.ledger = Ledger(self.database)
        self.losses = Losses(self.database)
        self.outcomes = Outcomes(self.database)
        self.retries = Retries(self.database)
        self.lanes = Lanes(self.database)
        self.trainings = Trainings(self.database)
        self.training_claims = TrainingClaims(self.database)
        self.aliases = Aliases(self.database)
        self.corrections = Corrections(self.database)
        self.stale = Stale(self.database)
        self.schedules = Schedules(self.database)

    def prepare(self, *, migrate_shared: bool = False) -> None:
        """Make the schema ready, as `Database.prepare` says."""
        self.database.prepare(migrate_shared=migrate_shared)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
