"""The handshake, simple and signed, however it is cut."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp.handshake import ClientHandshake, HandshakeDone, ServerHandshake
from tests.cutting import assert_read_three_ways, cuts_of, fed

NONCE = bytes(range(256)) * 5 + bytes(range(248))
C2 = bytes(1536)  # as many clients send it
SIMPLE_C1 = (123_456).to_bytes(4, "big") + bytes(4) + bytes(reversed(NONCE))
PLAYER_KEY = b"Genuine Adobe Flash Player 001"
SERVER_KEY = b"Genuine Adobe Flash Media Server 001"
TAIL = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, "sha256").digest()


def digest_position(packet: bytes, base: int) -> int:
    """As players compute it: ``base`` is where the digest's block has its data, 12 or 776."""
    return base + sum(packet[base - 4 : base]) % 728


def signed_c1(base: int) -> bytes:
    """A C1 as FFmpeg makes it, with the digest in the block at ``base``."""
    c1 = bytearray(bytes(4) + bytes.fromhex("09007c02") + NONCE)
    at = digest_position(bytes(c1), base)
    c1[at : at + 32] = hmac_sha256(PLAYER_KEY, bytes(c1[:at] + c1[at + 32 :]))
    return bytes(c1)


def player_accepts(c1: bytes, base: int, answer: bytes) -> bool:
    """The checks that FFmpeg's player makes before it continues."""
    s1, s2 = answer[1:1537], answer[1537:]
    at = digest_position(s1, base)
    s1_signed = s1[at : at + 32] == hmac_sha256(SERVER_KEY, s1[:at] + s1[at + 32 :])
    ours = digest_position(c1, base)
    key = hmac_sha256(SERVER_KEY + TAIL, c1[ours : ours + 32])
    return s1[4] >= 3 and s1_signed and s2[-32:] == hmac_sha256(key, s2[:-32])


def new_feed() -> Callable[[bytes], Iterable[HandshakeDone]]:
    handshake = ServerHandshake(NONCE)

    def feed(data: bytes) -> Iterable[HandshakeDone]:
        handshake.receive_data(data)
        return handshake.events()

    return feed


def answer_to(c1: bytes, time_ms: int = 0) -> bytes:
    handshake = ServerHandshake(NONCE, time_ms)
    handshake.receive_data(b"\x03" + c1)
    list(handshake.events())
    return handshake.data_to_send()


class SimpleHandshakeTests(SynchronousTestCase):
    """The handshake of the published specification."""

    def test_three_ways_to_the_end(self) -> None:
        """The handshake is done with C2's last byte, whatever follows."""
        assert_read_three_ways(self, new_feed, b"\x03" + SIMPLE_C1 + C2, [HandshakeDone()], behind=b"\x02more")

    @given(cuts_of(b"\x03" + SIMPLE_C1 + C2))
    def test_any_cut_ends_once(self, pieces: list[bytes]) -> None:
        """However TCP cuts the handshake, it is done once."""
        self.assertEqual([HandshakeDone()], fed(new_feed(), pieces))

    def test_answer_repeats_c1(self) -> None:
        """S1 carries our time, no version and our nonce; S2 repeats C1."""
        answer = answer_to(SIMPLE_C1, time_ms=2**32 + 5)
        self.assertEqual(b"\x03" + b"\0\0\0\x05" + bytes(4) + NONCE + SIMPLE_C1, answer)

    def test_answered_before_c2(self) -> None:
        """S0, S1 and S2 go out as soon as C1 is complete, and not a byte earlier."""
        handshake = ServerHandshake(NONCE)
        handshake.receive_data(b"\x03" + SIMPLE_C1[:-1])
        self.assertEqual([], list(handshake.events()))
        self.assertEqual(b"", handshake.data_to_send())
        handshake.receive_data(SIMPLE_C1[-1:])
        self.assertEqual([], list(handshake.events()))
        self.assertEqual(3073, len(handshake.data_to_send()))
        self.assertEqual(b"", handshake.data_to_send())
        self.assertFalse(handshake.is_done)

    def test_rest_is_handed_on(self) -> None:
        """What comes behind C2, at once or later, is handed on untouched and once."""
        handshake = ServerHandshake(NONCE)
        handshake.receive_data(b"\x03" + SIMPLE_C1 + C2[:-1])
        list(handshake.events())
        self.assertEqual(b"", handshake.take_rest())
        handshake.receive_data(C2[-1:] + b"chunks")
        self.assertEqual([HandshakeDone()], list(handshake.events()))
        self.assertTrue(handshake.is_done)
        self.assertEqual(b"chunks", handshake.take_rest())
        handshake.receive_data(b"more")
        self.assertEqual([], list(handshake.events()))
        self.assertEqual(b"more", handshake.take_rest())
        self.assertEqual(b"", handshake.take_rest())

    def test_c2_is_not_judged(self) -> None:
        """Any 1536 bytes are a C2."""
        self.assertEqual([HandshakeDone()], fed(new_feed(), [b"\x03" + SIMPLE_C1, b"\xff" * 1536]))

    def test_nonce_length_is_our_mistake(self) -> None:
        """A nonce that cannot fill S1 is our own mistake."""
        with self.assertRaisesRegex(MisuseError, "nonce of 32 bytes, not 1528"):
            ServerHandshake(bytes(32))


class SignedHandshakeTests(SynchronousTestCase):
    """The handshake with digests, in both layouts."""

    def test_digest_block_first(self) -> None:
        """A digest in the first block, as from FFmpeg, gets signatures that its player accepts."""
        c1 = signed_c1(12)
        self.assertTrue(player_accepts(c1, 12, answer_to(c1)))

    def test_key_block_first(self) -> None:
        """A digest in the second block gets signatures in that layout."""
        c1 = signed_c1(776)
        self.assertTrue(player_accepts(c1, 776, answer_to(c1)))

    def test_damaged_digest_gets_simple_answer(self) -> None:
        """A C1 whose digest does not verify gets the simple answer, without a version that promises signatures."""
        c1 = bytearray(signed_c1(12))
        c1[1535] ^= 1
        answer = answer_to(bytes(c1))
        self.assertEqual(bytes(4), answer[5:9])
        self.assertEqual(bytes(c1), answer[1537:])

    def test_length_of_the_answer(self) -> None:
        """Signed or not, the answer is one byte and two packets."""
        self.assertEqual(3073, len(answer_to(signed_c1(776), time_ms=2**40)))

    def test_three_ways_when_signed(self) -> None:
        """Signed or not, C2 ends the handshake."""
        assert_read_three_ways(self, new_feed, b"\x03" + signed_c1(12) + C2, [HandshakeDone()], behind=b"\x02more")


class WrongProtocolTests(SynchronousTestCase):
    """Peers that speak something else are distinguished by their first byte."""

    def assert_refused(self, first: bytes, reason: str) -> None:
        feed = new_feed()
        for _ in range(2):
            with self.assertRaisesRegex(PeerProtocolError, reason):
                list(feed(first))

    def test_tls_hello_is_named(self) -> None:
        """A TLS hello on a plain port is named."""
        self.assert_refused(b"\x16\x03\x01", "0x16 .*TLS hello")

    def test_http_request_is_named(self) -> None:
        """An HTTP request is named, whatever its method."""
        for method in (b"GET /", b"POST /open/1", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"TRACE"):
            self.assert_refused(method, "HTTP")

    def test_encrypted_rtmp_is_named(self) -> None:
        """RTMPE, in its three versions, is named."""
        for version in (6, 8, 9):
            self.assert_refused(bytes([version]), "RTMPE")

    def test_text_is_recognised_early(self) -> None:
        """Any byte from 32 on is text."""
        for first in (0x20, ord("S"), 0xFF):
            self.assert_refused(bytes([first]), "text: not RTMP")

    def test_other_versions_are_numbered(self) -> None:
        """Any other version is named by its number."""
        for version in (0, 1, 2, 4, 31):
            self.assert_refused(bytes([version]), f"0x{version:02x} instead of 0x03: not a version")


class ClientHandshakeTests(SynchronousTestCase):
    """The client's end of the published handshake."""

    def new_feed(self) -> Callable[[bytes], Iterable[HandshakeDone]]:
        handshake = ClientHandshake(NONCE)

        def feed(data: bytes) -> Iterable[HandshakeDone]:
            handshake.receive_data(data)
            return handshake.events()

        return feed

    def test_three_ways_for_the_client(self) -> None:
        """The handshake is done with S2's last byte, whatever S1 and S2 hold and whatever follows."""
        assert_read_three_ways(self, self.new_feed, b"\x03" + SIMPLE_C1 + C2, [HandshakeDone()], behind=b"\x02more")

    def test_words_come_early_enough(self) -> None:
        """C0 and C1 are there at once, C2 as soon as S1 has come: some servers wait for it before they send S2."""
        handshake = ClientHandshake(NONCE, 123_456)
        self.assertEqual(b"\x03" + (123_456).to_bytes(4, "big") + bytes(4) + NONCE, handshake.data_to_send())
        handshake.receive_data(b"\x03" + SIMPLE_C1)
        self.assertEqual([], list(handshake.events()))
        self.assertEqual(SIMPLE_C1, handshake.data_to_send())

    def test_both_ends_accept_each_other(self) -> None:
        """Our server's end accepts it, and it accepts our server's."""
        client, server = ClientHandshake(NONCE), ServerHandshake(NONCE)
        server.receive_data(client.data_to_send())
        self.assertEqual([], list(server.events()))
        client.receive_data(server.data_to_send() + b"rest")
        self.assertEqual([HandshakeDone()], list(client.events()))
        self.assertEqual(b"rest", client.take_rest())
        server.receive_data(client.data_to_send())
        self.assertEqual([HandshakeDone()], list(server.events()))

    def test_not_a_server(self) -> None:
        """Whatever does not begin with RTMP's version is an error."""
        handshake = ClientHandshake(NONCE)
        handshake.receive_data(b"HTTP/1.1 400")
        self.assertRaises(PeerProtocolError, list, handshake.events())
