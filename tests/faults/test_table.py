"""The table of faults, each once and short: `python -m bench chaos` runs it at length."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.faults import broker, clocks, disk, images, lanes, objects, producer, store
from bench.faults.cluster import Cluster, Servers
from bench.faults.counting import Proof
from bench.faults.field import Field
from bench.relay import Relay
from support.polling import missing

RECOVERED_S = 60.0
PAUSE_S = 4.0
MANY_COPIES = 8
"""Of each photograph where a lane is killed every second: they outlast it on faster machines."""

AWAY_S = 12.5
"""More than two leases."""


def check(proof: Proof, *, within_s: float = RECOVERED_S) -> None:
    """Every item of every job one outcome, the right one, and the next job works."""
    assert all(counted.items >= 500 for counted in proof.counted)
    assert proof.is_whole, [str(counted) for counted in proof.counted]
    assert proof.recovered_s is None or proof.recovered_s < within_s


def test_killed_lanes_cost_nothing_and_are_back_soon(idle: Cluster) -> None:
    check(lanes.killed_lanes(idle, kills=5, copies=MANY_COPIES), within_s=30)


def test_killed_worker_costs_nothing(idle: Cluster) -> None:
    check(lanes.killed_worker(idle))


def test_worker_that_is_asked_to_end_ends_what_it_has_in_hand(idle: Cluster) -> None:
    check(lanes.asked_to_end(idle))


def test_late_commit_of_a_lane_that_was_stopped_is_refused(idle: Cluster) -> None:
    check(lanes.paused_lane(idle, lease_s=2.0))


def test_killed_broker_costs_nothing_though_it_kept_nothing(
    at_work: Cluster, own_servers: Servers
) -> None:
    check(broker.killed(at_work, own_servers.valkey, keeps=False))


def test_paused_broker_is_waited_for(at_work: Cluster, own_servers: Servers) -> None:
    check(broker.paused(at_work, own_servers.valkey, pause_s=PAUSE_S))


def test_flushed_broker_costs_nothing(at_work: Cluster, own_servers: Servers) -> None:
    check(broker.flushed(at_work, own_servers.valkey))


@pytest.fixture(scope="module")
def rabbit(own_servers: Servers) -> Iterator[tuple[Cluster, Relay]]:
    try:
        with broker.rabbit(own_servers) as found:
            yield found
    except broker.NoRabbit as error:
        missing(str(error))


def test_killed_worker_on_rabbitmq_costs_nothing(rabbit: tuple[Cluster, Relay]) -> None:
    check(lanes.killed_worker(rabbit[0]))


def test_cut_connections_to_rabbitmq_cost_no_lane_its_chunk(rabbit: tuple[Cluster, Relay]) -> None:
    check(broker.rabbit_cut(*rabbit, cuts=8))


def test_full_broker_is_said_and_the_listing_goes_on(own_servers: Servers) -> None:
    check(broker.full_while_enqueueing(own_servers))


def test_workers_live_through_a_full_broker(at_work: Cluster, own_servers: Servers) -> None:
    check(broker.full_while_working(at_work, own_servers.valkey, full_s=PAUSE_S))


def test_crashed_store_is_waited_for(at_work: Cluster, own_servers: Servers) -> None:
    """For longer than two leases: whose work is done meanwhile commits it."""
    check(store.crashed(at_work, own_servers.postgres, away_s=AWAY_S))


def test_connections_to_the_store_may_be_cut_at_any_time(
    at_work: Cluster, own_servers: Servers
) -> None:
    check(store.cut(at_work, own_servers.postgres, cuts=10))


def test_paused_store_is_waited_for(at_work: Cluster, own_servers: Servers) -> None:
    check(store.paused(at_work, own_servers.postgres, pause_s=PAUSE_S))


def test_locked_sqlite_is_waited_for(own_servers: Servers) -> None:
    check(store.locked(own_servers, locked_s=PAUSE_S))


def test_killed_producer_lists_every_item_once(at_work: Cluster) -> None:
    check(producer.killed(at_work, moments=producer.MOMENTS[::3]))


def test_messages_twice_and_out_of_order_give_no_extra_outcome(own_servers: Servers) -> None:
    check(producer.doubled(own_servers))


def test_s3_that_fails_and_stalls_costs_no_image(
    own_servers: Servers, s3_server: dict[str, str]
) -> None:
    check(objects.faulty(own_servers, s3_server, kinds=objects.FEW_STALLS))


def test_images_that_end_their_lane_cost_no_other_image(own_servers: Servers) -> None:
    proof = images.fatal(own_servers)
    (counted,) = proof.counted
    assert counted.is_complete, str(counted)
    assert counted.items >= 500 + len(images.KINDS)
    assert counted.failed == {"lane_lost": len(images.KINDS)}


def test_full_disk_is_said_and_the_run_goes_on_when_there_is_room(field: Field) -> None:
    try:
        check(disk.full(field))
    except disk.NoMount:
        pytest.skip("only root may mount")


def test_clocks_that_are_off_take_no_lease_away(own_servers: Servers) -> None:
    check(clocks.off(own_servers, scheduler_s=-clocks.OFF_S, worker_s=clocks.OFF_S))
