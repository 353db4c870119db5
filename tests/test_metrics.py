"""Metrics: every server's own, sinks' beside ours, read at a scrape."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces import IMetricsScope
from rapidrtmp.metrics import Metrics


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def test_text_reads_back_with_names(self) -> None:
        """What is shown reads back, and every name is ours, or the process's by the names of all Prometheus clients."""
        self.metrics.rtmp_timeouts_total.labels("idle").inc(2)
        families = list(text_string_to_metric_families(self.metrics.render().decode()))
        self.assertTrue(families)
        self.assertTrue(all(family.name.startswith(("rapidrtmp_", "process_", "python_")) for family in families))
        self.assertEqual(2, self.sample("rapidrtmp_rtmp_timeouts_total", stage="idle"))

    def test_process_and_versions_are_shown(self) -> None:
        """The process, the interpreter and the versions of what runs are shown."""
        shown = {family.name: family for family in text_string_to_metric_families(self.metrics.render().decode())}
        self.assertGreater(shown["process_resident_memory_bytes"].samples[0].value, 1 << 20)
        self.assertIn("process_open_fds", shown)
        self.assertIn("python_info", shown)
        (build,) = shown["rapidrtmp_build_info"].samples
        self.assertEqual(({"version", "python", "twisted"}, 1), (set(build.labels), build.value))

    def test_no_times_of_making(self) -> None:
        """No metric is shown beside another that tells when it was made."""
        self.metrics.rtmp_timeouts_total.labels("idle").inc()
        self.metrics.sink("hls").histogram("delay_seconds", "Delay", (0.1, 1.0)).observe(0.5)
        self.assertNotIn(b"_created", self.metrics.render())

    def test_servers_do_not_share(self) -> None:
        """Two servers in one process count apart."""
        self.metrics.rtmp_connections_total.inc()
        other = Metrics()
        self.assertEqual(0, other.registry.get_sample_value("rapidrtmp_rtmp_connections_total"))

    def test_sinks_share_their_metrics(self) -> None:
        """A sink's metrics are the same for every stream, and labelled with its name."""
        hls, record = self.metrics.sink("hls"), self.metrics.sink("record")
        verifyObject(IMetricsScope, hls)
        hls.counter("things_total", "Things").inc()
        hls.counter("things_total", "Things").inc()
        record.counter("things_total", "Things").inc()
        hls.histogram("delay_seconds", "Delay", (0.1, 1.0)).observe(0.5)
        self.assertEqual(2, self.sample("rapidrtmp_things_total", sink="hls"))
        self.assertEqual(1, self.sample("rapidrtmp_things_total", sink="record"))
        self.assertEqual(0, self.sample("rapidrtmp_delay_seconds_bucket", sink="hls", le="0.1"))
        self.assertEqual(1, self.sample("rapidrtmp_delay_seconds_bucket", sink="hls", le="1.0"))

    def test_one_name_two_types(self) -> None:
        """A name that is one type of metric cannot be another: the sink that asks gets an error."""
        scope = self.metrics.sink("hls")
        scope.counter("things_total", "Things")
        error = self.assertRaises(MisuseError, scope.histogram, "things_total", "Things", (1,))
        self.assertEqual("the metric things_total is a Counter already, not a Histogram", str(error))

    def test_callback_is_asked_at_scrapes(self) -> None:
        """Numbers that live elsewhere are asked for at each scrape, and not before."""
        asked: list[int] = []

        def read() -> list[GaugeMetricFamily]:
            asked.append(1)
            return [GaugeMetricFamily("rapidrtmp_depth", "Depth", value=len(asked))]

        self.metrics.collect_from(read)
        self.assertEqual([], asked)
        self.assertIn(b"rapidrtmp_depth 1.0", self.metrics.render())
        self.assertIn(b"rapidrtmp_depth 2.0", self.metrics.render())
