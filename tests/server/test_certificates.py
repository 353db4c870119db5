"""The certificates of encrypted doors, renewed under clients that are connected."""

from __future__ import annotations

import json
import os
import socket
import ssl
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import skipIf

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody
from zope.interface import implementer

from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.metrics import Metrics
from rapidrtmp.server import certificates
from rapidrtmp.server.certificates import LOOK_EVERY_S, WARN_EVERY_S, Certificates
from rapidrtmp.server.configuration import Configuration, check_settings
from rapidrtmp.server.service import RapidRtmpService, make_service
from rapidrtmp.server.tls_endpoint import TlsEndpoint, user_name
from rapidrtmp.settings.sources import PluginSections, load_settings
from rapidrtmp.web.abuse import Abuse
from tests.rtmp.client import HANDSHAKE
from tests.serving import ServerCase
from tests.slow import slow

READ = "rapidrtmp_certificates_read_total"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Authority:
    """Makes certificates."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.number = 0

    def issue(self, days: int = 90, now: datetime | None = None) -> tuple[bytes, bytes]:
        """The next certificate and its key, in PEM; the number of the certificate is one more each time."""
        self.number += 1
        start = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), self.number)
        builder = builder.not_valid_before(start - timedelta(days=365)).not_valid_after(start + timedelta(days=days))
        certificate = builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)
        return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Files:
    """A certificate and a key where a server looks for them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.authority = Authority()
        self.certificate, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self.renew()

    def renew(self, days: int = 90, now: datetime | None = None) -> None:
        certificate, key = self.authority.issue(days, now)
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)

    def endpoint(self, extra: str = "") -> str:
        return f"ssl:0:interface=127.0.0.1:privateKey={self.key}:certKey={self.certificate}{extra}"


@implementer(IHandshakeListener)
class Guest(Protocol):
    """
    Speaks TLS with a server.

    :ivar chain: the numbers of the certificates that it has been shown.
    """

    def __init__(self) -> None:
        self.shown: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.is_gone = False
        self.heard: Deferred[bytes] = Deferred()
        self.chain: list[int] = []

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        self.chain = [each.get_serial_number() for each in transport.getHandle().get_peer_cert_chain()]
        self.shown.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_gone = True
        if not self.shown.called:
            self.shown.errback(reason)
        self.gone.callback(None)


class CertificatesCase(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(Abuse, "note_status", lambda *_: None)  # its timer outlives the server
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.files = Files(self.folder / "live")

    def serve(self, http: str, rtmp: str = "tcp:0:interface=127.0.0.1") -> RapidRtmpService:
        """A server with an unencrypted management door, for :meth:`reload`."""
        toml = self.folder / "config.toml"
        toml.write_text(
            f"[server]\nrtmp = '{rtmp}'\nhttp = '{http}'\nmanage = 'tcp:0:interface=127.0.0.1'\nauth = 'open'\n"
            "[storage]\nspec = 'memory:'\n"
        )
        configuration = Configuration({}, {}, toml, PluginSections())
        settings = configuration.load().settings
        service = make_service(reactor, settings, choose_plugins(settings), configuration)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    async def visit(self, port: int, protocols: tuple[bytes, ...] = ()) -> Guest:
        """A client that has shaken hands."""
        tls = CertificateOptions(acceptableProtocols=list(protocols) or None)  # which trust any server
        endpoint = wrapClientTLS(tls, TCP4ClientEndpoint(reactor, "127.0.0.1", port))
        guest: Guest = await connectProtocol(endpoint, Guest())
        self.addCleanup(self.leave, guest)
        await guest.shown
        return guest

    async def leave(self, guest: Guest) -> None:
        if not guest.is_gone and guest.transport is not None:
            guest.transport.abortConnection()  # type: ignore[attr-defined]
            await guest.gone

    async def ask(self, service: RapidRtmpService, path: str, method: bytes = b"GET") -> tuple[int, bytes]:
        """A request at the management door."""
        response = await self.agent.request(method, f"http://127.0.0.1:{service.manage.number}{path}".encode())
        return response.code, await readBody(response)

    async def reload(self, service: RapidRtmpService) -> Any:
        status, body = await self.ask(service, "/api/v1/reload", b"POST")
        self.assertEqual(200, status, body)
        return json.loads(body)["certificates"]


def certificate_lines(events: Any) -> list[tuple[str, str]]:
    """Level and text of what was logged of certificates."""
    return [
        (event["log_level"].name, event["log_format"].format(**event))
        for event in events
        if event.get("log_namespace", "").endswith("Certificates")
    ]


class RenewalTests(CertificatesCase):
    async def test_reload_drops_no_client(self) -> None:
        """After a reload new connections get the new certificate, and those that there are continue, RTMPS too."""
        service = self.serve(self.files.endpoint(), self.files.endpoint())
        ports = service.http.number, service.rtmp.number
        viewer, publisher = [await self.visit(port) for port in ports]
        self.assertEqual(([1], [1]), (viewer.chain, publisher.chain))
        self.files.renew()
        with capturedLogs() as events:
            answer = await self.reload(service)
        self.assertEqual([("rtmp", True), ("http", True)], [(each["door"], each["changed"]) for each in answer])
        ((level, line),) = certificate_lines(events)  # one for both
        self.assertEqual("info", level)
        self.assertIn(f"http at port {ports[0]}: new connections get the new certificate in {self.folder}", line)
        self.assertEqual([2, 2], [(await self.visit(port)).chain[0] for port in ports])
        viewer.transport.write(b"GET /api/ping HTTP/1.1\r\nHost: localhost\r\n\r\n")  # type: ignore[union-attr]
        self.assertTrue((await viewer.heard).startswith(b"HTTP/1.1 200"))
        publisher.transport.write(HANDSHAKE)  # type: ignore[union-attr]
        self.assertEqual(3, (await publisher.heard)[0])
        self.assertFalse(viewer.is_gone or publisher.is_gone)

    async def test_same_files_again(self) -> None:
        """A reload without new certificates says so in its answer, and nothing in the log."""
        service = self.serve(self.files.endpoint())
        with capturedLogs() as events:
            (answer,) = await self.reload(service)
        self.assertEqual([], certificate_lines(events))
        end = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%d")
        self.assertEqual(end, answer.pop("expiresAt")[:10])
        expected = {"door": "http", "port": service.http.number, "file": str(self.files.certificate), "changed": False}
        self.assertEqual(expected, answer)

    @slow
    async def test_bad_pair_keeps_the_old_one(self) -> None:
        """A pair that is cut short, mixed, missing or locked keeps the old one, with one line in log and answer."""
        service = self.serve(self.files.endpoint())
        certificate, key = self.files.authority.issue()

        def write(certificate: bytes, key: bytes) -> None:
            self.files.certificate.write_bytes(certificate)
            self.files.key.write_bytes(key)

        locked = behind_password(key)
        for change, words in (
            (lambda: self.files.certificate.write_bytes(certificate), "is not that of the certificate in"),
            (lambda: write(certificate[:200], key), "fullchain.pem is cut short"),
            (lambda: write(certificate + certificate[:100], key), "fullchain.pem is cut short"),
            (lambda: write(certificate, key[:60]), "privkey.pem is cut short"),
            (lambda: write(b"", key), "fullchain.pem is empty"),
            (lambda: write(b"certificate", key), "fullchain.pem holds no certificate in PEM"),
            (lambda: write(certificate, certificate), "privkey.pem holds no private key in PEM"),
            (lambda: write(certificate, locked), "privkey.pem needs a password"),
            (self.files.key.unlink, "privkey.pem does not exist"),
            (self.files.key.mkdir, "privkey.pem cannot be read: Is a directory"),
        ):
            change()
            with capturedLogs() as events:
                (answer,) = await self.reload(service)
            self.assertIn(words, answer["error"])
            self.assertFalse(answer["changed"])
            ((level, line),) = certificate_lines(events)
            self.assertEqual("error", level)
            self.assertIn(f"the certificate is not renewed, the old one stays: {answer['error']}", line)
            self.assertEqual(1, (await self.visit(service.http.number)).chain[0])
        self.assertEqual(10.0, service.metrics.registry.get_sample_value(READ, {"result": "refused"}))
        self.files.key.rmdir()
        write(certificate, key)
        self.assertEqual([True], [each["changed"] for each in await self.reload(service)])
        self.assertEqual(2, (await self.visit(service.http.number)).chain[0])

    async def test_files_are_watched(self) -> None:
        """Files that change, or the links to them, as certbot leaves them, are followed without being asked."""
        self.patch(certificates, "LOOK_EVERY_S", 0.01)
        second = Files(self.folder / "archive")
        second.authority.number = 7
        second.renew()
        service = self.serve(self.files.endpoint())
        guest = await self.visit(service.http.number)
        for mine, other in ((self.files.certificate, second.certificate), (self.files.key, second.key)):
            link = mine.with_suffix(".new")
            link.symlink_to(other)
            link.replace(mine)
        while (await self.visit(service.http.number)).chain[0] != 8:
            pass
        second.renew()
        while (await self.visit(service.http.number)).chain[0] != 9:
            pass
        self.assertFalse(guest.is_gone)

    async def test_documented_hook_of_certbot(self) -> None:
        """The hook for certbot that the documentation shows puts new files where a server finds them."""
        self.patch(certificates, "LOOK_EVERY_S", 0.01)
        service = self.serve(self.files.endpoint())
        renewed = Files(self.folder / "renewed")
        renewed.authority.number = 7
        renewed.renew()
        script = (
            (Path(__file__).parents[2] / "docs" / "https.md").read_text("utf-8").split("```sh\n")[1].split("```")[0]
        )
        for documented, here in (
            ("/etc/letsencrypt/live/media.example.com", str(self.folder / "renewed")),
            ("/etc/rapidrtmp/tls", str(self.folder / "live")),
            ("-o root -g rapidrtmp", f"-o {os.geteuid()} -g {os.getegid()}"),
        ):
            self.assertIn(documented, script)
            script = script.replace(documented, here)
        for lineage, expected in (("another", 1), ("renewed", 8)):
            environment = {**os.environ, "RENEWED_LINEAGE": str(self.folder / lineage)}
            done = await getProcessOutputAndValue("/bin/sh", ["-c", script], environment)
            self.assertEqual((b"", b"", 0), done)
            while (serial := (await self.visit(service.http.number)).chain[0]) != expected:
                self.assertEqual(1, serial)
        self.assertEqual(0o640, self.files.key.stat().st_mode & 0o777)

    async def test_hang_up_renews(self) -> None:
        """A hang-up reads certificates again as well."""
        service = self.serve(self.files.endpoint())
        self.files.renew()
        service.hang_up()
        while (await self.visit(service.http.number)).chain[0] != 2:
            pass

    async def test_bad_configuration_is_refused_first(self) -> None:
        """A file of settings that is wrong is refused as ever; so is a door that comes without a certificate."""
        service = self.serve(self.files.endpoint())
        toml = self.folder / "config.toml"
        toml.write_text(toml.read_text().replace("[storage]", "[apps.radio]\n[storage]") + "[hls\n")
        self.assertEqual(400, (await self.ask(service, "/api/v1/reload", b"POST"))[0])
        toml.write_text("[server]\nhttp = 'ssl:0:privateKey=none.pem'\n")
        status, body = await self.ask(service, "/api/v1/reload", b"POST")
        self.assertEqual((400, True), (status, b"none.pem does not exist" in body))


class ProtocolTests(CertificatesCase):
    async def test_http2_is_negotiated(self) -> None:
        """HTTP/2 is agreed on by ALPN before and after a renewal, HTTP/1.1 with clients that know no other."""
        service = self.serve(self.files.endpoint())
        for _ in range(2):
            for offered, agreed in (((b"h2", b"http/1.1"), b"h2"), ((b"http/1.1",), b"http/1.1")):
                guest = await self.visit(service.http.number, offered)
                self.assertEqual(agreed, guest.transport.negotiatedProtocol)  # type: ignore[union-attr]
            self.files.renew()
            await self.reload(service)

    async def test_old_versions_are_refused(self) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older, before and after a renewal."""
        service = self.serve(self.files.endpoint())
        refused = "TLSV1_ALERT_PROTOCOL_VERSION"
        for _ in range(2):
            for version, expected in (
                (ssl.TLSVersion.TLSv1, refused),
                (ssl.TLSVersion.TLSv1_1, refused),
                (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
                (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
            ):
                self.assertEqual(expected, await deferToThread(self.speak, service.http.number, version))
            self.files.renew()
            await self.reload(service)

    def speak(self, port: int, version: ssl.TLSVersion) -> str:
        """What becomes of a client that knows one version, blocking: the version, or why there is none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", port), 20) as plain:
            try:
                with context.wrap_socket(plain) as encrypted:
                    return str(encrypted.version())
            except ssl.SSLError as error:
                return str(error.reason)

    @slow
    async def test_whole_chain_is_shown(self) -> None:
        """Certificates behind the first in a file, and those of another, are shown to clients."""
        more = [self.files.authority.issue()[0] for _ in range(2)]
        extra = self.folder / "chain.pem"
        self.files.certificate.write_bytes(self.files.certificate.read_bytes() + more[0])
        extra.write_bytes(more[1])
        service = self.serve(self.files.endpoint(f":extraCertChain={extra}"))
        self.assertEqual([1, 2, 3], (await self.visit(service.http.number)).chain)


class EndpointTests(SynchronousTestCase):
    def test_reads_what_twisted_reads(self) -> None:
        """Positions, keys and escapes are those of Twisted's endpoint strings."""
        endpoint = TlsEndpoint.parse(r"ssl:443:key.pem:c\:1.pem:interface=\:\::extraCertChain=x.pem:backlog=9")
        expected = (443, Path("key.pem"), Path("c:1.pem"), Path("x.pem"), "::", 9)
        read = (endpoint.port, endpoint.private_key, endpoint.certificate, endpoint.chain)
        self.assertEqual(expected, (*read, endpoint.interface, endpoint.backlog))
        self.assertEqual([Path("server.pem")] * 2, TlsEndpoint.parse("haproxy:ssl:443").files)

    def test_wrong_endpoints_are_said_in_words(self) -> None:
        """A key that does not exist, a port that is no number and an old version are said in words."""
        for wrong, words in (
            ("ssl:443:certkey=c.pem", "ssl: takes port, privateKey"),
            ("ssl:https", "'https'"),
            ("ssl:443:sslmethod=TLSv1_METHOD", "TLS 1.2 and 1.3 are spoken"),
        ):
            self.assertIn(words, str(self.assertRaises(ConfigurationError, TlsEndpoint.parse, wrong)))

    def test_start_is_refused_in_words(self) -> None:
        """A start without usable files says which and why, with the setting."""
        for endpoint in ("ssl:443:privateKey=none.pem", "haproxy:ssl:443:privateKey=none.pem"):
            settings = load_settings({"http": [endpoint]}, {}, None, PluginSections()).settings
            error = self.assertRaises(ConfigurationError, check_settings, Clock(), settings)
            self.assertEqual(f"server.http: {endpoint} is not usable: none.pem does not exist", str(error))

    @skipIf(os.geteuid() == 0, "root may read everything")
    def test_unreadable_in_words(self) -> None:
        """A key that only another user may read is said so, with the user that the server runs as."""
        files = Files(Path(self.mktemp()))
        files.key.chmod(0)
        error = self.assertRaises(ConfigurationError, TlsEndpoint.parse(files.endpoint()).load)
        self.assertIn(f"{files.key} is not readable for {user_name()}", str(error))


class WatchTests(SynchronousTestCase):
    """With a clock and a time of day of the test's own."""

    def setUp(self) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.files = Files(Path(self.mktemp()))
        utc_s = NOW.timestamp()
        self.certificates = Certificates(
            self.clock, lambda: int(1000 * (utc_s + self.clock.seconds())), self.metrics.certificates_read_total
        )
        self.addCleanup(self.certificates.stop)

    def logged(self, act: Callable[[], object]) -> list[tuple[str, str]]:
        with capturedLogs() as events:
            act()
        return certificate_lines(events)

    def look(self, times: int) -> list[tuple[str, str]]:
        return self.logged(lambda: self.clock.pump([LOOK_EVERY_S] * times))

    def test_waits_until_files_are_still(self) -> None:
        """Files that change between two looks are being written; they are read when they do not, and once."""
        self.files.renew(now=NOW)
        door = self.certificates.open("http", self.files.endpoint())
        self.certificates.start()
        certificate, key = self.files.authority.issue(now=NOW)
        self.files.certificate.write_bytes(certificate[:100])
        self.assertEqual([], self.look(1))
        self.files.certificate.write_bytes(certificate)
        self.assertEqual([], self.look(1))
        self.files.key.write_bytes(key)
        self.assertEqual([], self.look(1))
        self.assertEqual(["info"], [level for level, _ in self.look(1)])
        self.assertEqual([], self.look(9))
        self.files.key.write_bytes(b"")
        self.assertEqual(["error"], [level for level, _ in self.look(9)])
        self.assertEqual((NOW + timedelta(days=90)).timestamp(), door.expires_s)

    def test_warns_before_the_end(self) -> None:
        """A certificate that ends within 14 days is warned of, at the start and once a day, until it is renewed."""
        self.files.renew(days=13, now=NOW)
        for name in ("rtmp", "http"):
            self.certificates.open(name, self.files.endpoint())
        line = f"the certificate in {self.files.certificate} ends on 2030-01-14 (13 days from now)"
        self.assertEqual([("warn", line)], self.logged(self.certificates.start))
        self.assertEqual([], self.look(9))
        ((_, line),) = self.logged(lambda: self.clock.advance(WARN_EVERY_S))
        self.assertIn("(11 days from now)", line)
        self.files.renew(now=NOW)
        self.assertEqual(["info"], [level for level, _ in self.look(2)])
        self.assertEqual([], self.logged(lambda: self.clock.advance(WARN_EVERY_S)))

    def test_certificate_that_has_ended(self) -> None:
        """One that has ended is shown all the same, and warned of."""
        self.files.renew(days=-1, now=NOW)
        self.certificates.open("http", self.files.endpoint())
        ((_, line),) = self.logged(self.certificates.start)
        self.assertIn("has ended on 2029-12-31", line)

    def test_expiry_is_a_metric(self) -> None:
        """The end of each door's certificate is a metric, labelled with the door and its port."""
        self.files.renew(days=13, now=NOW)
        self.certificates.open("rtmp", self.files.endpoint().replace("ssl:0", "ssl:1936"))
        self.metrics.collect_from(self.certificates.metrics)
        end_s = (NOW + timedelta(days=13)).timestamp()
        name = "rapidrtmp_certificate_expiry_timestamp_seconds"
        found = self.metrics.registry.get_sample_value(name, {"door": "rtmp", "port": "1936"})
        self.assertEqual(end_s, found)

    @skipIf(os.geteuid() == 0, "root may read everything")
    def test_files_that_cannot_be_read_again(self) -> None:
        """Where the server has become a user who may not read the key, it says so when it starts."""
        self.files.renew(now=NOW)
        self.certificates.open("http", self.files.endpoint())
        self.files.key.chmod(0)
        ((level, line),) = self.logged(self.certificates.start)
        self.assertEqual("warn", level)
        self.assertTrue(line.startswith(f"{self.files.key}: not readable for {user_name()}, so a renewed"), line)


def behind_password(key: bytes) -> bytes:
    """The same key behind a password."""
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
