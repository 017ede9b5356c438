"""Redis and Valkey as a broker: what they would do to messages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from tagmill.doctor.clocks import read_clock
from tagmill.doctor.findings import Look

WHAT = "broker"

LEAST_VERSION = (6, 0)
"""The first with users (ACL); older ones have had no mending for years."""

FULL_FROM = 0.9
"""Of the memory limit."""


def look_at_redis(look: Look, client: Any, name: str, *, now: Callable[[], float]) -> None:
    """Look at a Redis or Valkey.

    Args:
        look: gets the findings, and the clock.
        client: redis-py's.
        name: of the broker, for people.
        now: this machine's clock.
    """
    client.ping()
    try:
        said = client.info()
    except NoPermissionError:
        look.note(
            WHAT,
            f"{name} answers; its user may not ask for more",
            "allow the user of TAGMILL_BROKER_URL the commands INFO, TIME and CONFIG|GET",
        )
        return
    kind = "Valkey" if said.get("server_name") == "valkey" else "Redis"
    number = str(said.get("valkey_version") or said.get("redis_version"))
    _version(look, kind, number)
    if said.get("loading"):
        look.ill(WHAT, f"{name} is still loading its data", "wait until it has: tagmill doctor")
    if said.get("role") != "master":
        look.ill(
            WHAT,
            f"{name} is a replica, which takes no messages",
            "name its master in TAGMILL_BROKER_URL, or its Sentinels as sentinel://",
        )
    _memory(look, said)
    _durability(look, client, said)
    with suppress(NoPermissionError):
        look.clock = read_clock(
            lambda: _time(client),
            now,
            of="the broker's clock",
            spoils="nothing of tagmill's goes by it, but one of the two is wrong",
        )
    if look.is_well:
        look.well(WHAT, f"{name}, {kind} {number}")


def _version(look: Look, kind: str, number: str) -> None:
    parts = tuple(int(part) for part in number.split(".")[:2] if part.isdecimal())
    if parts < LEAST_VERSION:
        look.ill(
            WHAT,
            f"{kind} {number} is too old, the least is {'.'.join(map(str, LEAST_VERSION))}",
            "install Valkey, or a newer Redis",
        )


def _memory(look: Look, said: dict[str, Any]) -> None:
    most, used = int(said.get("maxmemory", 0)), int(said.get("used_memory", 0))
    if not most:
        return
    policy = str(said.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        look.ill(
            WHAT,
            f"its maxmemory-policy is {policy}: near its limit it throws messages away",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    elif policy != "noeviction":
        look.note(
            WHAT,
            f"its maxmemory-policy is {policy}: it throws away what others let expire there",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    if used >= FULL_FROM * most:
        say = look.ill if used >= most else look.note
        say(
            WHAT,
            f"it uses {used:,} of the {most:,} bytes that it may",
            "CONFIG SET maxmemory to more, or start more lanes: tagmill worker",
        )


def _durability(look: Look, client: Any, said: dict[str, Any]) -> None:
    """A broker may lose everything, as the ledger is the truth; but that costs time."""
    if said.get("aof_enabled"):
        return
    try:
        snapshots = client.config_get("save").get("save")
    except (NoPermissionError, ResponseError):  # as managed ones refuse it
        return
    if not snapshots:
        look.note(
            WHAT,
            "it keeps nothing on disk: after its restart the tick finds the messages again",
            "CONFIG SET appendonly yes, and in its configuration file; and run tagmill scheduler",
        )


def _time(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
