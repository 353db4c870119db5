"""What the plan for growth says of loads whose answer is known."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.growth_plan import Costs, Load, make_plan


class GrowthPlanTests(SynchronousTestCase):
    def test_small_load_needs_one_node(self) -> None:
        """A hundred streams and their viewers are one process without a cache."""
        plan = make_plan(Load(streams=100, viewers=500, low_latency=0, shields=0))
        self.assertEqual((1, 1, 0, 0), (plan.nodes, plan.node_hosts, plan.edges, plan.edge_hosts))
        self.assertApproximates(0.333, plan.busiest, 0.01)  # 3 ms a stream, and 500 answers of 66 us

    def test_popular_stream_is_for_edges(self) -> None:
        """A stream with a million viewers asks nothing of its node, and 2.5 Tbit/s of the edges."""
        plan = make_plan(Load(streams=1, viewers=1_000_000, low_latency=1))
        self.assertEqual((1, 12, 2500.0), (plan.nodes, plan.origin_requests, plan.edge_out))
        self.assertEqual("network of edges", plan.narrowest)
        self.assertApproximates(950, plan.edges, 1)

    def test_busiest_node_is_within_bounds(self) -> None:
        """Wherever publishers land, the busiest node is within its bounds, also when the busiest one is lost."""
        for seed in range(3):
            load = Load(streams=2000, viewers=20_000, seed=seed)
            plan = make_plan(load)
            self.assertLessEqual(plan.busiest, load.busy)
            self.assertLessEqual(plan.busiest_in_need, load.busy_in_need)
            self.assertGreater(plan.nodes, 2000 * Costs().publisher_ms / 1000 / load.busy)

    def test_dearer_streams_need_more_nodes(self) -> None:
        """Twice the cost of a stream, or twice its bits, is about twice the nodes."""
        load = Load(streams=1000, viewers=0)
        nodes = make_plan(load).nodes
        for dearer in (make_plan(load, Costs(publisher_ms=6)), make_plan(Load(streams=1000, viewers=0, kilobits=5000))):
            self.assertApproximates(2 * nodes, dearer.nodes, 3)
