"""What `doctor` says of one thing."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

ASK_S = 3
"""For how long a server may leave a question without an answer."""


class Health(enum.StrEnum):
    """Of one thing."""

    WELL = "ok"
    NOTE = "note"
    ILL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        mend: what to do about it; empty where nothing is to be done.
    """

    what: str
    health: Health
    said: str
    mend: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """A clock elsewhere.

    Attributes:
        of: whose, as a phrase.
        ahead_s: of this machine's; negative where it is behind.
        spoils: what goes wrong where the two do not agree.
        most_s: apart, before nothing goes right; ``None`` where it never comes to that.
    """

    of: str
    ahead_s: float
    spoils: str
    most_s: float | None = None


@dataclass(kw_only=True, slots=True)
class Look:
    """What came of looking at a server.

    Attributes:
        messages: that wait to be labelled, where a broker said so.
        is_well: it answered, and can be worked with.
        is_current: it is a store of this release's schema.
    """

    findings: list[Finding] = field(default_factory=list)
    clock: Clock | None = None
    messages: int | None = None
    is_well: bool = True
    is_current: bool = False

    def well(self, what: str, said: str) -> None:
        """Say that something is as it should be."""
        self.findings.append(Finding(what=what, health=Health.WELL, said=said))

    def note(self, what: str, said: str, mend: str) -> None:
        """Say that something may cost somebody something."""
        self.findings.append(Finding(what=what, health=Health.NOTE, said=said, mend=mend))

    def ill(self, what: str, said: str, mend: str) -> None:
        """Say that something keeps tagmill from its work."""
        self.is_well = False
        self.findings.append(Finding(what=what, health=Health.ILL, said=said, mend=mend))
