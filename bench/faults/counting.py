"""What a case ends with: every item counted, and how long it took to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tagmill.contract import Label
from tagmill.store import Store

Labels = Mapping[str, tuple[Label, ...]]
"""The labels of photographs that nothing disturbed, by file name."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What became of a job's items.

    Attributes:
        state: of the job.
        items: that there are to label.
        listed: by the job's own account.
        ended: as well: labelled, failed, or known from another job.
        outcomes: in the store.
        uris: different ones among them.
        wrong: whose labels are not those of an undisturbed run.
        failed: by error code.
        next_is_done: whether the job after it ended well.
    """

    state: str
    items: int
    listed: int
    ended: int
    outcomes: int
    uris: int
    wrong: int
    failed: Counter[str] = field(default_factory=Counter)
    next_is_done: bool = True

    @property
    def is_whole(self) -> bool:
        """True where every item has one outcome, none failed, all labels are right."""
        return self.is_complete and not self.failed

    @property
    def is_complete(self) -> bool:
        """As `is_whole`, but items may have failed."""
        same = {self.items, self.listed, self.ended, self.outcomes, self.uris}
        return self.state == "done" and len(same) == 1 and self.wrong == 0 and self.next_is_done

    def __str__(self) -> str:
        said = f"{self.items:,} items, {self.outcomes:,} outcomes, {self.uris:,} different"
        for error, count in self.failed.items():
            said += f", {count:,} × {error}"
        if self.wrong:
            said += f", {self.wrong:,} wrong"
        if self.state != "done" or {self.listed, self.ended} != {self.items}:
            said += f"; the job is {self.state} with {self.ended:,} of {self.listed:,}"
        return said + ("" if self.next_is_done else "; the next job did not work")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a cluster came through a fault.

    Attributes:
        counted: the items of each job that was disturbed.
        recovered_s: from the end of the fault until it had gone on, as each case says; ``None``
            where there is nothing to be waited for.
        detail: what happened, for people.
    """

    counted: tuple[Counted, ...]
    recovered_s: float | None = None
    detail: str = ""

    @property
    def is_whole(self) -> bool:
        """True where all jobs are; see `Counted`."""
        return all(counted.is_whole for counted in self.counted)


def count(store: Store, job_id: str, *, items: int, labels: Labels) -> Counted:
    """Count what is in the store of a job, by its results and by its own counters."""
    job = store.jobs.get(job_id)
    results = list(store.outcomes.results(job_id))
    named = [(Path(unquote(result.uri)).name, result) for result in results]
    return Counted(
        state=str(job.state),
        items=items,
        listed=job.listed,
        ended=job.ok + job.failed + job.skipped,
        outcomes=len(results),
        uris=len({result.uri for result in results}),
        wrong=sum(not result.error and result.labels != labels[name] for name, result in named),
        failed=Counter(str(result.error) for result in results if result.error),
    )
