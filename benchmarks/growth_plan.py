"""
How many nodes, edges and how much bandwidth so many streams and viewers need, from what was measured of one of each.

    python -m benchmarks.growth_plan --streams 10000 --viewers 1000000 --low-latency 0.5

The unit costs are those of ``docs/sizing.md``; give others as ``--cost publisher_ms=4``. The plan is arithmetic where
that is enough. Where publishers land is chance, so that is simulated: streams are dealt to nodes as a load balancer
deals connections, viewers to streams as popularity has it (a few streams have most), and one node is lost, whose
publishers land at the others. Nodes are added until the busiest is within bounds both before and after. The same seed
gives the same plan.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

__all__ = ["Costs", "Load", "Plan", "make_plan"]

GIGA = 1e9


@dataclass(frozen=True)
class Costs:
    """
    What one of each costs: CPU in milliseconds a second, or as it says.

    :ivar publisher_ms: one stream of 2.5 Mbit/s taken in and packaged with parts.
    :ivar feed_ms: one stream followed by one other node, both sides together.
    :ivar viewer_requests: of a low-latency viewer, a second; ``ordinary_requests`` of another.
    :ivar origin_answer_us: an answer of a node, with its bytes; ``edge_answer_us`` of a cache, likewise.
    :ivar window_bytes: what a stream keeps in memory for each bit a second of it.
    :ivar node_bytes: a node without streams.
    :ivar lease_us: one lease renewed at the directory; ``claim_us`` one name claimed there.
    """

    publisher_ms: float = 3.0
    feed_ms: float = 0.8
    viewer_requests: float = 6.0
    ordinary_requests: float = 1.0
    origin_answer_us: float = 66.0
    edge_answer_us: float = 95.0
    window_bytes: float = 6.0
    node_bytes: float = 70e6
    lease_us: float = 3.0
    claim_us: float = 100.0


@dataclass(frozen=True)
class Load:
    """
    What is to be carried, and by what.

    :ivar low_latency: the share of viewers that play with low latency.
    :ivar kilobits: of a stream, a second.
    :ivar shields: caches that each ask the nodes for every URL that is watched once; 0 where viewers ask nodes.
    :ivar busy: the share of a core that a node or an edge may use; ``busy_in_need`` when a node is lost.
    :ivar gigabits: the network of one host. ``cores``: the nodes, or edges, on one host.
    :ivar skew: how much the popular streams have before the others: 0 for all alike, 1 as words in a language.
    """

    streams: int = 10_000
    viewers: int = 1_000_000
    low_latency: float = 0.5
    kilobits: float = 2500.0
    shields: int = 2
    busy: float = 0.6
    busy_in_need: float = 0.85
    gigabits: float = 10.0
    cores: int = 8
    skew: float = 1.0
    lease_interval_s: float = 2.0
    seed: int = 1


class Plan(NamedTuple):
    """
    What it takes. Bandwidth is in Gbit/s.

    :ivar nodes: processes of one core that take publishers; ``node_hosts`` the machines for them.
    :ivar busiest: the share of a core that the busiest of them uses; ``busiest_in_need`` when that one is lost, 0 where
        there is no other.
    :ivar moved: the publishers that connect again then, and the seconds of CPU that their claims take at the directory.
    :ivar origin_requests: a second, to all nodes together; ``origin_out`` the bandwidth.
    :ivar edges: cores that serve viewers; ``edge_hosts`` the machines for them.
    :ivar directory_ms: CPU a second for leases.
    :ivar narrowest: what limits first.
    """

    nodes: int
    node_hosts: int
    busiest: float
    busiest_in_need: float
    moved: int
    moved_claims_s: float
    node_memory_gb: float
    ingest_in: float
    origin_requests: float
    origin_out: float
    edges: int
    edge_hosts: int
    edge_out: float
    directory_ms: float
    narrowest: str


def audience(load: Load) -> list[int]:
    """The viewers of each stream, the most popular one first."""
    weights = [1 / (rank + 1) ** load.skew for rank in range(load.streams)]
    total = sum(weights)
    return [round(load.viewers * weight / total) for weight in weights]


def viewer_requests(load: Load, costs: Costs) -> float:
    """What all viewers ask for, a second."""
    each = costs.viewer_requests * load.low_latency + costs.ordinary_requests * (1 - load.low_latency)
    return each * load.viewers


def origin_requests(load: Load, costs: Costs, watched: int) -> float:
    """
    What all nodes are asked for, a second.

    :param watched: how many streams have viewers.
    """
    if not load.shields:
        return viewer_requests(load, costs)
    return watched * load.shields * (costs.viewer_requests if load.low_latency else costs.ordinary_requests)


def _shares(load: Load, costs: Costs, homes: Sequence[int], watched: Sequence[bool], nodes: int) -> list[float]:
    size = load.kilobits / 2500
    shares = [0.0] * nodes
    for home, is_watched in zip(homes, watched, strict=True):
        shares[home] += costs.publisher_ms * size
        if is_watched and nodes > 1:  # a cache asks any node: nearly always one that follows
            shares[home] += costs.feed_ms * size / 2
    answers_ms = origin_requests(load, costs, sum(watched)) * costs.origin_answer_us / 1000
    others = (answers_ms + (sum(watched) * costs.feed_ms * size / 2 if nodes > 1 else 0)) / nodes
    return [(share + others) / 1000 for share in shares]


def _busiest(load: Load, costs: Costs, watched: Sequence[bool], nodes: int) -> tuple[float, float, int]:
    """The busiest node, the busiest when that is lost, and how many publishers it had."""
    chance = random.Random(load.seed)
    homes = [chance.randrange(nodes) for _ in range(load.streams)]
    shares = _shares(load, costs, homes, watched, nodes)
    lost = max(range(nodes), key=shares.__getitem__)
    moved = homes.count(lost)
    if nodes == 1:
        return shares[0], 0.0, moved
    left = [home if home < lost else home - 1 for home in homes]
    left = [chance.randrange(nodes - 1) if before == lost else after for before, after in zip(homes, left, strict=True)]
    return shares[lost], max(_shares(load, costs, left, watched, nodes - 1)), moved


def find_nodes(load: Load, costs: Costs, watched: Sequence[bool]) -> tuple[int, float, float, int]:
    """The fewest nodes within bounds, and what :func:`_busiest` says of them."""
    nodes = max(1, math.ceil(load.streams * costs.publisher_ms * load.kilobits / 2500 / 1000 / load.busy))
    while True:
        busiest, in_need, moved = _busiest(load, costs, watched, nodes)
        if busiest <= load.busy and in_need <= load.busy_in_need:
            return nodes, busiest, in_need, moved
        nodes += max(1, nodes // 50)


def make_plan(load: Load, costs: Costs = Costs()) -> Plan:
    """What a load takes."""
    bits = load.kilobits * 1000
    viewers = audience(load)
    watched = [bool(count) for count in viewers]
    nodes, busiest, in_need, moved = find_nodes(load, costs, watched)
    edge_out = load.viewers * bits
    origin_out = sum(watched) * bits * load.shields if load.shields else edge_out
    edges = math.ceil(viewer_requests(load, costs) * costs.edge_answer_us / 1e6 / load.busy) if load.shields else 0
    network = load.gigabits * GIGA * 0.8
    node_hosts = max(
        math.ceil(nodes / load.cores), math.ceil((load.streams * bits) / network), math.ceil(origin_out / network)
    )
    edge_hosts = max(math.ceil(edges / load.cores), math.ceil(edge_out / network)) if load.shields else 0
    limits = {
        "CPU of nodes": nodes / load.cores,
        "network of nodes": max(load.streams * bits, origin_out) / network,
        "CPU of edges": edges / load.cores,
        "network of edges": edge_out / network if load.shields else 0,
    }
    return Plan(
        nodes=nodes,
        node_hosts=node_hosts,
        busiest=round(busiest, 3),
        busiest_in_need=round(in_need, 3),
        moved=moved,
        moved_claims_s=round(moved * costs.claim_us / 1e6, 3),
        node_memory_gb=round((costs.node_bytes + load.streams / nodes * bits * costs.window_bytes) / 1e9, 2),
        ingest_in=round(load.streams * bits / GIGA, 1),
        origin_requests=round(origin_requests(load, costs, sum(watched))),
        origin_out=round(origin_out / GIGA, 1),
        edges=edges,
        edge_hosts=edge_hosts,
        edge_out=round(edge_out / GIGA, 1),
        directory_ms=round(load.streams / load.lease_interval_s * costs.lease_us / 1000, 1),
        narrowest=max(limits, key=limits.__getitem__),
    )


def _read_costs(words: Sequence[str]) -> Costs:
    known = {each.name for each in fields(Costs)}
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise SystemExit(f"--cost {name}: one of {', '.join(sorted(known))}")
        found[name] = float(value)
    return replace(Costs(), **found)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    for each in fields(Load):
        default = each.default
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--cost", action="append", default=[], metavar="NAME=NUMBER", help="another unit cost")
    arguments = vars(parser.parse_args())
    costs = _read_costs(arguments.pop("cost"))
    load = Load(**arguments)
    plan = make_plan(load, costs)
    for name, value in plan._asdict().items():
        print(f"{name.replace('_', ' '):<18}{value:>14,}" if not isinstance(value, str) else f"{name:<18}{value:>24}")
    print(json.dumps({"load": asdict(load), "costs": asdict(costs), "plan": plan._asdict()}))


if __name__ == "__main__":
    main()
