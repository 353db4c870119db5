import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from rapidrtmp.web.abuse import Abuse
from tests.serving import ServerCase, loopback_settings
from tests.slow import slow
from tests.web.http2.kit import frame


def write_certificate(path: Path) -> None:
    """A key and a certificate that it signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))


class Client:
    """Speaks HTTP/2 over TLS from a thread of its own, blocking."""

    def __init__(self, port: int, window: int | None = None) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20))
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, path: str) -> int:
        number = self.h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        self.h2.send_headers(number, fields, end_stream=True)
        return number

    def wait(self, event_type: type[h2.events.Event]) -> Any:
        """Read until there is an event of a type; ``None`` if the connection ends before."""
        while data := self._receive():
            for event in self.h2.receive_data(data):
                if isinstance(event, event_type):
                    self.flush()
                    return event
            self.flush()
        return None

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except OSError:
            return b""

    def wait_for_goaway(self) -> int | None:
        """Read raw frames until the server says why it leaves; a client's ``h2`` would ask for that politely."""
        received = b""
        while data := self._receive():
            received += data
            while len(received) >= 9 and len(received) >= (end := 9 + int.from_bytes(received[:3], "big")):
                if received[3] == 7:
                    return int.from_bytes(received[13:17], "big")
                received = received[end:]
        return None

    def wait_until_gone(self, send: bytes) -> bool:
        """Send on, and tell whether the connection ends within the socket's timeout."""
        try:
            for _ in range(100_000):
                self.socket.sendall(send)
        except OSError:
            return True
        return False


class TlsTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(Abuse, "_look_later", lambda _self: None)  # its timer outlives a server by a minute
        path = Path(self.mktemp())
        write_certificate(path)
        settings = loopback_settings()
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}"
        self.service = self.start(replace(settings, server=replace(settings.server, http=(endpoint,))))

    def talk(self, conversation: Callable[[Client], Any], window: int | None = None) -> Deferred[Any]:
        """What a conversation of a client with the server comes to."""

        def run() -> Any:
            client = Client(self.service.http.number, window)
            try:
                return conversation(client)
            finally:
                client.socket.close()

        return deferToThread(run)

    async def test_answers_http2_over_tls(self) -> None:
        """A client that can speak HTTP/2 over TLS does so."""

        def conversation(client: Client) -> tuple[str | None, bytes]:
            client.ask("/health")
            client.flush()
            return client.socket.selected_alpn_protocol(), client.wait(h2.events.DataReceived).data

        self.assertEqual(("h2", b'{"status": "ok"}\n'), await self.talk(conversation))

    async def test_closed_window_opens_over_tls(self) -> None:
        """An answer whose window is closed goes out when it opens."""

        def conversation(client: Client) -> bytes:
            number = client.ask("/health")
            client.flush()
            client.wait(h2.events.ResponseReceived)
            client.h2.increment_flow_control_window(100, number)
            client.flush()
            return bytes(client.wait(h2.events.DataReceived).data)

        self.assertEqual(b'{"status": "ok"}\n', await self.talk(conversation, window=0))

    @slow
    async def test_rapid_reset_ends_over_tls(self) -> None:
        """A client that takes its requests back as fast as it sends them is asked to be calm, and is gone."""

        def conversation(client: Client) -> tuple[int | None, bool]:
            for _ in range(2000):
                client.h2.reset_stream(client.ask("/live/k/index.m3u8"))
            with contextlib.suppress(OSError):
                client.flush()
            return client.wait_for_goaway(), client.wait_until_gone(frame(6, 0, 0, bytes(8)) * 100)

        self.assertEqual((int(ErrorCodes.ENHANCE_YOUR_CALM), True), await self.talk(conversation))

    async def test_protocol_error_ends_over_tls(self) -> None:
        """A client that breaks the protocol is notified, and is gone however much it sends."""

        def conversation(client: Client) -> tuple[int | None, bool]:
            client.socket.sendall(frame(0, 0, 1, b"data of no stream"))
            return client.wait_for_goaway(), client.wait_until_gone(bytes(16_384))

        self.assertEqual((int(ErrorCodes.PROTOCOL_ERROR), True), await self.talk(conversation))
