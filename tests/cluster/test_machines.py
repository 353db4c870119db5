"""The same two servers as two machines: leases in a real Redis, feeds and moves over TCP and TLS."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from twisted.web.client import readBody
from twisted.web.http_headers import Headers

from rapidrtmp.app.plugins import ChosenPlugins, choose_plugins
from rapidrtmp.cluster.addresses import PublicAddressError, make_client_endpoint
from rapidrtmp.cluster.endpoint import ClusterSite
from rapidrtmp.directory.local import LocalDirectoryFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.live.stream import StreamState
from rapidrtmp.server.cluster_door import ClusterDoor, check_cluster
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import ClusterSettings, Settings
from tests.cluster import test_nodes
from tests.cluster.nodes import NAME, PLAYLIST, NodesCase
from tests.net.edge import media
from tests.redis_server import RedisServer, find_servers
from tests.slow import slow

SECRET = "0123456789abcdef0123456789abcdef"
TCP = "tcp:0:interface=127.0.0.1"


def make_certificate(folder: Path) -> Path:
    """A certificate for ``localhost`` that is its own authority, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    path = folder / "node.pem"
    path.write_bytes(certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


class MachinesCase(NodesCase):
    """A test with servers that share a directory in Redis."""

    def setUp(self) -> None:
        program = find_servers().get("redis")
        if program is None:
            raise SkipTest("redis-server is not installed")
        super().setUp()
        self.folder.mkdir()
        self.services: list[RapidRtmpService] = []
        self.redis = RedisServer(program)
        self.addCleanup(self.redis.close)
        self.secret_file = self.folder / "secret"
        self.secret_file.write_text(SECRET)

    @property
    def directory(self) -> str:
        return f"redis:127.0.0.1:{self.redis.port}"

    def shared(self, storage: str = "memory:") -> Settings:
        return replace(super().shared(storage), cluster=self.cluster())

    def cluster(self) -> ClusterSettings:
        return ClusterSettings(endpoint=TCP, secret_file=str(self.secret_file))

    def start(self, settings: Settings, plugins: ChosenPlugins | None = None) -> RapidRtmpService:
        service = super().start(settings, plugins)
        self.services.append(service)
        return service

    async def cut(self, node: Any) -> None:
        await super().cut(node)
        for service in self.services:
            assert service.node is not None
            await service.node.peers.close()

    async def let_die(self, service: RapidRtmpService) -> None:
        node: Any = service.node
        directory = node.names.directory
        node._renewing.stop()
        for name in directory._owned:
            self.redis.ask("DEL", f"{{rapidrtmp}}:lease:{name}")
        self.redis.ask("ZREM", "{rapidrtmp}:nodes", directory._member)
        self.patch(directory, "close", lambda: succeed(None))
        directory._link.close()
        await self.cut(node)


@slow
class TwoMachinesTests(MachinesCase, test_nodes.TwoNodesTests):
    """All that two processes of one machine do."""

    async def test_names_that_no_node_has(self) -> None:
        """Viewers of streams that there are not are answered soon, and leave nothing behind."""
        one = self.start(self.shared())
        while (await self.get(one, "/ready"))[0] != 200:
            await deferLater(reactor, 0.05)
        for number in range(20):
            self.assertEqual(404, (await self.get(one, f"/live/nothing{number}/index.m3u8"))[0])
        self.assertEqual(0, one.node.followed if one.node else -1)

    async def test_others_than_nodes(self) -> None:
        """Without the secret nothing is answered, and no body read; it is logged once and counted."""
        one = self.start(self.shared())
        await self.publish(one, b"".join(media(2)))
        await self.look(one)
        node: Any = one.node
        root = f"http://127.0.0.1:{node._port.getHost().port}/.cluster/v1"
        with capturedLogs() as logs:
            for path in ("feed/live/k", "api/v1/streams", "take/live/k"):
                for shown in ("", "Bearer x", f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}"):
                    response = await self.agent.request(
                        b"GET", f"{root}/{path}".encode(), Headers({"authorization": [shown]})
                    )
                    self.assertEqual(401, response.code)
                    await readBody(response)
        self.assertEqual(1, sum("endpoint of the cluster" in event["log_format"] for event in logs))
        self.assertEqual(12, node.refused)


@slow
class EncryptedMachinesTests(MachinesCase):
    """Two servers that speak TLS to each other."""

    test_publisher_takes_stream_along = test_nodes.TwoNodesTests.test_publisher_takes_stream_along

    def cluster(self) -> ClusterSettings:
        path = self.folder / "node.pem"
        if not path.exists():
            make_certificate(self.folder)
        return ClusterSettings(
            endpoint=f"ssl:0:interface=127.0.0.1:privateKey={path}",
            address="https://localhost",
            secret_file=str(self.secret_file),
            ca=str(path),
        )

    async def test_certificate_of_unknown_authority(self) -> None:
        """A node whose certificate comes from elsewhere is not believed: nothing is sent to it."""
        one, other = self.start(self.shared()), self.start(replace(self.shared(), cluster=self.unknowing()))
        await self.publish(one, b"".join(media(2)))
        await self.look(one)
        _, body = await self.get(other, "/api/v1/streams")
        assert one.node is not None
        self.assertIn(one.node.place.node.encode(), body)
        self.assertIn(b"incomplete", body)

    def unknowing(self) -> ClusterSettings:
        return replace(self.cluster(), ca="")


class PrivateNetworkTests(SynchronousTestCase):
    def test_public_addresses_are_encrypted(self) -> None:
        """Neither an endpoint nor an address that is public is taken without TLS."""
        for settings in (
            ClusterSettings(endpoint="tcp:8100:interface=8.8.8.8"),
            ClusterSettings(endpoint="tcp:8100", address="http://8.8.8.8:8100"),
            ClusterSettings(endpoint="tcp:8100", address="10.0.0.5:8100"),
            ClusterSettings(endpoint="unix:/x"),
            ClusterSettings(endpoint="tcp:8100", secret_file="/nowhere"),
            ClusterSettings(endpoint="tcp:8100", secret_file=self.secret_file("short")),
            ClusterSettings(endpoint="tcp:8100", ca="/nowhere"),
            ClusterSettings(address="https://10.0.0.5"),
        ):
            settings = replace(settings, secret_file=settings.secret_file or self.secret_file(SECRET))
            error = self.assertRaises(ConfigurationError, check_cluster, settings, LocalDirectoryFactory("x"))
            self.assertNotIn("\n", str(error))
        for settings in (ClusterSettings(endpoint="tcp:8100", address="http://10.0.0.5"), ClusterSettings()):
            if settings.endpoint:
                settings = replace(settings, secret_file=self.secret_file(SECRET))
            check_cluster(settings, LocalDirectoryFactory("x"))

    def secret_file(self, secret: str) -> str:
        path = Path(self.mktemp())
        path.write_text(secret)
        return str(path)

    def test_cluster_needs_shared_directory(self) -> None:
        """A cluster whose directory is one process's is refused at the start."""
        settings = ClusterSettings(endpoint=TCP, secret_file=self.secret_file(SECRET))
        error = self.assertRaises(ConfigurationError, check_cluster, settings, choose_plugins(Settings()).directory)
        self.assertIn("redis:", str(error))

    def test_public_clients_are_refused(self) -> None:
        """An unencrypted endpoint takes no connection from a public address."""
        site: Any = ClusterSite(reactor, None, lambda: SECRET)  # type: ignore[arg-type]
        site.is_private = True
        with capturedLogs():
            self.assertIsNone(site.buildProtocol(IPv4Address("TCP", "8.8.8.8", 1)))
        self.assertIsNotNone(site.buildProtocol(IPv4Address("TCP", "10.0.0.7", 1)))
        self.assertEqual(1, site.refused)

    def test_name_that_leads_to_public_address(self) -> None:
        """A name of a host that turns out to be public is hung up on before anything is said."""
        endpoint: Any = make_client_endpoint(reactor, "http://node.example:80")

        class Connection:
            transport: Any = None
            aborted = False

            def getPeer(self) -> IPv4Address:
                return IPv4Address("TCP", "8.8.8.8", 80)

            def abortConnection(self) -> None:
                self.aborted = True

        connection = Connection()
        connection.transport = connection
        self.patch(endpoint, "_endpoint", type("E", (), {"connect": lambda _self, _factory: succeed(connection)})())
        self.failureResultOf(endpoint.connect(None), PublicAddressError)
        self.assertTrue(connection.aborted)

    def test_workers_take_next_ports(self) -> None:
        """Of several workers each listens at a port of its own, from that of the endpoint on."""
        settings = ClusterSettings(endpoint=TCP)
        opened = []
        with capturedLogs():
            first: Any = self.successResultOf(
                ClusterDoor(reactor, settings, None).open(ClusterSite(reactor, None, str))  # type: ignore[arg-type]
            )
            opened.append(first)
            port = first[0].getHost().port
            settings = ClusterSettings(endpoint=f"tcp:{port}:interface=127.0.0.1", address="http://localhost:1")
            door = ClusterDoor(reactor, settings, None, tries=64)  # type: ignore[arg-type]
            opened.append(self.successResultOf(door.open(ClusterSite(reactor, None, str))))  # type: ignore[arg-type]
        for each, _ in opened:
            each.stopListening()
        self.assertEqual(f"http://127.0.0.1:{port}", first[1])
        self.assertRegex(opened[1][1], "^http://localhost:[0-9]+$")
        self.assertNotEqual(f"http://localhost:{port}", opened[1][1])


@slow
class CutOffTests(MachinesCase):
    """A directory that is down, and a node that does not reach it."""

    lease_s = 3.0

    @property
    def directory(self) -> str:
        return f"{super().directory}:lease=3s"

    async def two(self) -> tuple[Any, Any]:
        """Two nodes that have seen each other; the first has a stream that the other shows."""
        one, other = self.start(self.shared()), self.start(self.shared())
        await self.publish(one, b"".join(media(5)))
        await self.look(other)
        while not (one.node and one.node._others):
            await deferLater(reactor, 0.05)
        return one, other

    async def test_directory_that_is_down(self) -> None:
        """With the directory away for far longer than leases last, streams and their publishers stay."""
        one, other = await self.two()
        self.redis.kill()
        await deferLater(reactor, 2 * self.lease_s)
        for service in (one, other):
            self.assertEqual(200, (await self.get(service, PLAYLIST))[0])
        stream = self.stream_of(one)
        assert stream is not None
        self.assertIs(StreamState.LIVE, stream.state)
        self.redis.start()
        await deferLater(reactor, 2 * self.lease_s)
        self.assertIs(stream, self.stream_of(one))
        self.assertEqual(one.node.names.fence(NAME), (await other.node.names.find(NAME)).fence)

    async def test_node_that_is_cut_off(self) -> None:
        """A node that alone does not reach the directory disconnects its publishers before its leases end."""
        one, other = await self.two()
        link = one.node.names.directory._link
        link._endpoint = lambda: TCP4ClientEndpoint(reactor, "127.0.0.1", 1)
        link.close()
        cut_s = reactor.seconds()  # type: ignore[attr-defined]
        with capturedLogs() as logs:
            while self.stream_of(one) is not None:
                await deferLater(reactor, 0.02)
        took_s = reactor.seconds() - cut_s  # type: ignore[attr-defined]
        self.assertLess(took_s, self.lease_s)
        self.assertTrue(any("cut off" in event["log_format"] for event in logs))
        self.assertEqual(200, (await self.get(one, PLAYLIST))[0])
        before = await self.look(other)
        while self.redis.ask("EXISTS", f"{{rapidrtmp}}:lease:{NAME}") != ":0\r\n":
            await deferLater(reactor, 0.05)
        await self.publish(other, b"".join(media(5)))
        after = await self.look(other, before.next_sequence + 2)
        self.assertGreaterEqual(after.sequence, before.sequence)
        await self.check_listed(other, after)
