from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.server.shared_api import merge_metrics

ONE = """# HELP a_total What is counted
# TYPE a_total counter
a_total 1.0
# HELP b Buckets
# TYPE b histogram
b_bucket{le="1.0"} 2.0
b_sum{} 3.0
"""
OTHER = """# HELP b Buckets
# TYPE b histogram
b_bucket{le="1.0"} 5.0
# HELP c Only here, with {braces}
# TYPE c gauge
c{name="x} y",kind="\\""} 7.0
"""


class MergeTests(SynchronousTestCase):
    def test_metrics_of_two_workers(self) -> None:
        """The metrics of several workers make one page: each family once, each sample with its worker."""
        page = merge_metrics({"one": ONE, "other": OTHER})
        families = {family.name: family for family in text_string_to_metric_families(page)}
        self.assertEqual({"a", "b", "c"}, families.keys())
        self.assertEqual(3, page.count("# TYPE "))
        found = {
            (sample.name, sample.labels["worker"]): sample for each in families.values() for sample in each.samples
        }
        self.assertEqual(1.0, found["a_total", "one"].value)
        self.assertEqual((2.0, 5.0), (found["b_bucket", "one"].value, found["b_bucket", "other"].value))
        self.assertEqual({"name": "x} y", "kind": '"', "worker": "other"}, found["c", "other"].labels)
