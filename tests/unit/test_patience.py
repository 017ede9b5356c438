"""What is away is waited for, loudly; what a person must mend is not."""

from __future__ import annotations

import pytest
from support.clock import Time

from tagmill.errors import (
    BrokerAway,
    BrokerError,
    StoreAway,
    StoreError,
    StoreFull,
    TagmillError,
    UsageError,
)
from tagmill.patience import AT_ONCE, Patience


class Away:
    """Fails until a time."""

    def __init__(self, time: Time, until_s: float, error: TagmillError) -> None:
        self.time, self.until_s, self.error = time, until_s, error

    def __call__(self, what: str) -> str:
        if self.time.now_s < self.until_s:
            raise self.error
        return what


def patience(time: Time, said: list[str], most_s: float = 600.0) -> Patience:
    return Patience(said.append, most_s=most_s, clock=time.clock, sleep=time.sleep)


@pytest.mark.parametrize("error", [StoreAway("the store is away"), BrokerAway("no broker")])
def test_what_is_away_for_minutes_is_waited_for_and_said_now_and_then(error: TagmillError) -> None:
    time, said = Time(), []
    assert patience(time, said)(Away(time, 200, error), "done") == "done"
    assert said[0].startswith(f"{error}; waiting for it, 0 of 600 s so far")
    assert "is back" in said[-1]
    assert 5 < len(said) < 20
    assert len({round(wait_s, 6) for wait_s in time.slept}) > len(time.slept) / 2, "no jitter"
    assert max(time.slept) <= 10


def test_what_stays_away_ends_it() -> None:
    time, said = Time(), []
    with pytest.raises(StoreAway):
        patience(time, said, most_s=30)(Away(time, 1000, StoreAway("away")), "done")
    assert 30 <= time.now_s < 45


@pytest.mark.parametrize(
    "error", [StoreFull("full"), StoreError("schema"), BrokerError("password"), UsageError("no")]
)
def test_what_a_person_must_mend_is_not_waited_for(error: TagmillError) -> None:
    time, said = Time(), []
    with pytest.raises(type(error)):
        patience(time, said)(Away(time, 1, error), "done")
    assert (time.slept, said) == ([], [])


def test_without_patience_the_first_failure_ends_it() -> None:
    tries = []

    def fails() -> None:
        tries.append(1)
        raise BrokerAway("away")

    with pytest.raises(BrokerAway):
        AT_ONCE(fails)
    assert len(tries) == 1


def test_ctrl_c_ends_the_waiting() -> None:
    time = Time()

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    patient = Patience(lambda _: None, clock=time.clock, sleep=interrupted)
    with pytest.raises(KeyboardInterrupt):
        patient(Away(time, 1, StoreAway("away")), "done")
