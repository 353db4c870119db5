"""Manifests against their schemas, metrics of alerts and panels against the server's, the image's promises."""

from __future__ import annotations

import configparser
import json
import re
import warnings
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.settings.sources import load_settings
from tests.deploy.kustomize import build, read_all
from tests.slow import slow
from tests.test_documentation import reference

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
RULES = DEPLOY / "prometheus" / "rules.yml"
#: Of kubernetes, and of Prometheus itself.
VERSION = "1.30"
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
#: Functions, keywords and labels of queries.
QUERY_WORDS = {
    *("sum", "min", "avg_over_time", "histogram_quantile", "rate", "increase", "by", "time"),
    *("instance", "le", "job", "check", "state", "status", "route", "result", "finding", "kind", "stage"),
}


class QueriesCase(SynchronousTestCase):
    def assert_known(self, query: str) -> None:
        """Every name that a query asks for is a metric that there is."""
        plain = re.sub(r'"[^"]*"|\[\w+\]', "", query)
        names = set(re.findall(r"\b[a-z_][a-z0-9_]+", plain)) - QUERY_WORDS
        self.assertEqual(set(), names - reference().metric_names() - OTHERS, query)
        self.assertTrue(names, query)


@slow  # it makes a server, to know what there is
class RulesTests(QueriesCase):
    def setUp(self) -> None:
        (self.group,) = yaml.safe_load(RULES.read_text())["groups"]

    def test_alerts_ask_for_metrics_that_exist(self) -> None:
        """Each alert has a name of its own, a severity and words, and asks for metrics that the server has."""
        for rule in self.group["rules"]:
            self.assert_known(rule["expr"])
            self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))
            self.assertEqual({"summary", "description"}, set(rule["annotations"]))
        names = [rule["alert"] for rule in self.group["rules"]]
        self.assertEqual(len(names), len(set(names)))

    def test_operator_has_the_same_alerts(self) -> None:
        """The alerts for the Prometheus operator are those of the file."""
        (manifest,) = read_all(OVERLAYS / "monitoring" / "prometheusrule.yaml")
        self.assertEqual([self.group], manifest["spec"]["groups"])

    def test_unknown_metric_is_noticed(self) -> None:
        """A metric that the server does not have is found out."""
        self.assertRaises(self.failureException, self.assert_known, "rate(rapidrtmp_absent_total[5m]) > 0")


@slow  # it makes a server, to know what there is
class DashboardTests(QueriesCase):
    def test_panels_ask_for_metrics_that_exist(self) -> None:
        """Each panel of the dashboard asks for metrics that the server has, and has a place of its own."""
        dashboard = json.loads((DEPLOY / "grafana" / "rapidrtmp.json").read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                self.assert_known(target["expr"])
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
        self.assertEqual(len(places), len(set(places)))

    def test_datasource_is_the_provisioned_one(self) -> None:
        """The panels read from the datasource that the composition makes."""
        dashboard = json.loads((DEPLOY / "grafana" / "rapidrtmp.json").read_text())
        made = yaml.safe_load((DEPLOY / "docker" / "grafana" / "datasources.yml").read_text())["datasources"]
        used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
        self.assertEqual({each["uid"] for each in made}, used)


@slow  # it makes a server, to know what there is
class KubernetesTests(SynchronousTestCase):
    def test_manifests_fit_their_schemas(self) -> None:
        """Every manifest of each overlay fits the schema of Kubernetes, to the letter."""
        for overlay in ("disk", "gcs", "cluster"):
            for manifest in build(OVERLAYS / overlay):
                kubernetes_validate.validate(manifest, VERSION, strict=True)

    def test_every_file_is_part_of_an_overlay(self) -> None:
        """No file lies there that no kustomization names."""
        for folder in (DEPLOY / "kubernetes" / "base", *OVERLAYS.iterdir()):
            plan = (folder / "kustomization.yaml").read_text()
            for path in folder.iterdir():
                self.assertTrue(path.name == "kustomization.yaml" or path.name in plan, path)

    def container(self, overlay: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The specification of the pod, and its one container."""
        (workload,) = (each for each in build(OVERLAYS / overlay) if each["kind"] == "StatefulSet")
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        return workload, container

    def test_configuration_is_understood(self) -> None:
        """The server understands the configuration, and listens where services and probes lead."""
        (config,) = (each for each in build(OVERLAYS / "disk") if each["kind"] == "ConfigMap")
        path = Path(self.mktemp())
        path.write_text(config["data"]["rapidrtmp.toml"])
        server = load_settings({}, {}, path).settings.server
        _, container = self.container("disk")
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        listened = {"rtmp": server.rtmp, "http": server.http, "manage": server.manage}
        self.assertEqual({name: (f"tcp:{port}",) for name, port in ports.items()}, listened)
        services = [each for each in build(OVERLAYS / "disk") if each["kind"] == "Service"]
        self.assertEqual(set(ports), {port["targetPort"] for each in services for port in each["spec"]["ports"]})

    def test_bucket_is_a_storage_that_is_known(self) -> None:
        """The environment of the overlay with a bucket is understood."""
        _, container = self.container("gcs")
        environment = {each["name"]: each["value"] for each in container["env"]}
        self.assertEqual("gcs:BUCKET:prefix=streams", load_settings({}, environment, None).settings.storage.spec)

    def test_nodes_know_each_other(self) -> None:
        """The environment of the overlay with several nodes is understood; the services that it names are there."""
        _, container = self.container("cluster")
        environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        settings = load_settings({}, environment, None).settings
        self.assertEqual("redis:rapidrtmp-directory:6379", settings.server.directory)
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        self.assertEqual(f"tcp:{ports['nodes']}", settings.cluster.endpoint)
        built = build(OVERLAYS / "cluster")
        services = {each["metadata"]["name"]: each["spec"] for each in built if each["kind"] == "Service"}
        self.assertEqual(6379, services["rapidrtmp-directory"]["ports"][0]["port"])
        (ingress,) = (each for each in built if each["kind"] == "Ingress")
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        self.assertIn(backend["port"]["name"], [port["name"] for port in services[backend["name"]]["ports"]])
        (scaler,) = (each for each in built if each["kind"] == "HorizontalPodAutoscaler")
        self.assertEqual("StatefulSet", scaler["spec"]["scaleTargetRef"]["kind"])
        workload, _ = self.container("cluster")
        pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        needed_s = pause_s + settings.server.shutdown_timeout_ms / 1000 + 1
        self.assertGreater(workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], needed_s)

    def test_cache_is_that_of_one_node(self) -> None:
        """The cache before several nodes keeps what the one before a single server keeps."""
        one, several = (DEPLOY / "varnish" / "live.vcl", OVERLAYS / "cluster" / "live.vcl")
        kept = [
            text.read_text().partition("sub vcl_backend_response")[2].partition("\n}")[0] for text in (one, several)
        ]
        self.assertEqual(kept[0], kept[1])
        rules = {line for line in one.read_text().splitlines() if line.startswith("    ") and "backend" not in line}
        self.assertEqual(
            {'    .host = "127.0.0.1";', '    .port = "8080";'}, rules - set(several.read_text().splitlines())
        )

    def test_probes_lead_to_routes(self) -> None:
        """Each probe asks for a route that the server has."""
        _, container = self.container("disk")
        routes = set(re.findall(r"`GET (/\S+)`", reference().api_reference()))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertIn(container[probe]["httpGet"]["path"], routes)

    def test_stop_may_take_its_time(self) -> None:
        """A pod is given longer than the pause, the server's own timeout and a second."""
        workload, container = self.container("disk")
        pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        needed_s = pause_s + load_settings({}, {}, None).settings.server.shutdown_timeout_ms / 1000 + 1
        self.assertGreater(workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], needed_s)

    def test_every_mount_has_a_volume(self) -> None:
        """What is mounted is a volume, or claimed for the pod; the root is read-only, the user is the image's."""
        for overlay in ("disk", "gcs", "cluster"):
            workload, container = self.container(overlay)
            pod = workload["spec"]["template"]["spec"]
            claimed = workload["spec"].get("volumeClaimTemplates", [])
            volumes = {each["name"] for each in pod["volumes"]} | {each["metadata"]["name"] for each in claimed}
            self.assertEqual(volumes, {each["name"] for each in container["volumeMounts"]})
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
            self.assertIn(f"USER {pod['securityContext']['runAsUser']}:", (DEPLOY / "docker/Dockerfile").read_text())


@slow  # it makes a server, to know what there is
class ImageTests(SynchronousTestCase):
    def setUp(self) -> None:
        text = (DEPLOY / "docker" / "Dockerfile").read_text()
        parts = re.split(r"^FROM (\S+) AS (\w+)$", text, flags=re.MULTILINE)
        self.stages = dict(zip(parts[2::3], parts[3::3], strict=True))

    def test_runs_as_another_user(self) -> None:
        """The stage that is built by default is the last one, and ends as a user of its own."""
        self.assertEqual("server", list(self.stages)[-1])
        self.assertEqual(1, len(re.findall(r"^USER [1-9]\d*:[1-9]\d*$", self.stages["server"], re.MULTILINE)))
        self.assertNotRegex(self.stages["server"].partition("\nUSER ")[2], r"(?m)^RUN ")

    def test_ffmpeg_is_in_one_variant(self) -> None:
        """FFmpeg is installed where the image is to transcode, and not by default."""
        (installing,) = re.findall(r"^RUN (?:.*\\\n)*.*ffmpeg", self.stages["server"], re.MULTILINE)
        self.assertTrue(installing.startswith('RUN if [ "$TRANSCODE" = yes ]'), installing)
        self.assertIn("ARG TRANSCODE=no\n", self.stages["server"])
        self.assertNotIn("ffmpeg", self.stages["build"])

    def test_health_is_checked(self) -> None:
        """The health check asks for a route that the server has, at a port that is exposed."""
        (port, path) = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", self.stages["server"]).groups()
        self.assertIn(f"`GET {path}`", reference().api_reference())
        self.assertIn(port, re.search(r"^EXPOSE (.*)$", self.stages["server"], re.MULTILINE)[1].split())

    def test_composition_mounts_files_that_exist(self) -> None:
        """What the composition mounts from here is there, and Prometheus scrapes the door that the server opens."""
        composition = yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text())
        for service in composition["services"].values():
            for volume in service["volumes"]:
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((DEPLOY / "docker" / source).exists(), source)
                else:
                    self.assertIn(source, composition["volumes"])
        command = composition["services"]["rapidrtmp"]["command"]
        scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
        port = command[command.index("--manage") + 1].removeprefix("tcp:")
        self.assertEqual([f"rapidrtmp:{port}"], scraped[0]["static_configs"][0]["targets"])


class WorkersTests(SynchronousTestCase):
    def test_composition_of_workers_adds_to_it(self) -> None:
        """What is put over the composition for several workers is of its one server, and understood by that."""
        added = yaml.safe_load((DEPLOY / "docker" / "compose.workers.yml").read_text())["services"]
        one = yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text())["services"]["rapidrtmp"]
        self.assertEqual(["rapidrtmp"], list(added))
        self.assertEqual([*one["command"], "--workers", "auto"], added["rapidrtmp"]["command"])


class UnitTests(SynchronousTestCase):
    def unit(self, name: str) -> configparser.ConfigParser:
        """A unit of systemd; of a key that is there twice the last one."""
        parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
        parser.optionxform = str
        parser.read_string((DEPLOY / "systemd" / name).read_text().replace("\\\n", " "))
        return parser

    def test_sockets_are_those_of_the_options(self) -> None:
        """The server is given each socket by the name that its unit gives it, at the usual port."""
        command = self.unit("rapidrtmp.service")["Service"]["ExecStart"].split()
        for name, port in (("rtmp", "1935"), ("http", "8080")):
            socket = self.unit(f"rapidrtmp-{name}.socket")["Socket"]
            self.assertEqual(("rapidrtmp.service", name), (socket["Service"], socket["FileDescriptorName"]))
            self.assertTrue(socket["ListenStream"].endswith(f":{port}"))
            self.assertEqual(f"systemd:domain=INET6:name={name}", command[command.index(f"--{name}") + 1])

    def test_stop_may_take_its_time(self) -> None:
        """systemd waits longer than the server's own timeout and a second."""
        for unit in ("rapidrtmp.service", "rapidrtmp-workers.service"):
            wait_s = int(self.unit(unit)["Service"]["TimeoutStopSec"])
            self.assertGreater(wait_s, load_settings({}, {}, None).settings.server.shutdown_timeout_ms / 1000 + 1)

    def test_unit_of_workers_is_as_hardened(self) -> None:
        """The unit of several workers allows no more than that of one process, and stops by its supervisor."""
        one, workers = (dict(self.unit(name)["Service"]) for name in ("rapidrtmp.service", "rapidrtmp-workers.service"))
        self.assertIn("--workers auto", workers.pop("ExecStart"))
        self.assertEqual("mixed", workers.pop("KillMode"))
        del one["ExecStart"], workers["OOMPolicy"]
        self.assertEqual(one, workers)
