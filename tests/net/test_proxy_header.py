"""What a proxy says ahead of a connection's bytes, byte by byte as the document has it."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.net.proxy_header import SIGNATURE, read_proxy_header

IPV4 = bytes.fromhex("c0000207 c0000201 c350 078f")  # 192.0.2.7 to 192.0.2.1, 50000 to 1935
IPV6 = bytes.fromhex("20010db8000000000000000000000007 20010db8000000000000000000000001 c350 078f")
MAPPED = bytes.fromhex("00000000000000000000ffffc0000207 00000000000000000000ffffc0000201 c350 078f")


def binary(command: int, family: int, rest: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


GOOD: dict[bytes, tuple[str, int] | None] = {
    b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1935\r\n": ("192.0.2.7", 50_000),
    b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 1935\r\n": ("2001:db8::7", 50_000),
    b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 50000 1935\r\n": ("192.0.2.7", 50_000),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    binary(0x21, 0x11, IPV4): ("192.0.2.7", 50_000),
    binary(0x21, 0x21, IPV6): ("2001:db8::7", 50_000),
    binary(0x21, 0x21, MAPPED): ("192.0.2.7", 50_000),
    binary(0x21, 0x11, IPV4 + b"\x03\x00\x04abcd"): ("192.0.2.7", 50_000),  # and a checksum, which is optional
    binary(0x20, 0x00, b""): None,
    binary(0x20, 0x11, IPV4): None,
    binary(0x21, 0x00, b""): None,
    binary(0x21, 0x31, bytes(216)): None,  # a UNIX socket
}
BAD = (
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 50000\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1935 x\r\n",
    b"PROXY TCP6 192.0.2.7 192.0.2.1 50000 1935\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 50000 1935\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 1935\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 1935\r\n",
    b"PROXY TCP4 host 192.0.2.1 1 1935\r\n",
    b"PROXY TCP4 192.0.2.\xff 192.0.2.1 1 1935\r\n",
    b"PROXY UDP4 192.0.2.7 192.0.2.1 50000 1935\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    binary(0x11, 0x11, IPV4),
    binary(0x22, 0x11, IPV4),
    binary(0x21, 0x11, IPV4[:-1]),
    SIGNATURE + b"\x21\x11\xff\xff",
)


class HeaderTests(SynchronousTestCase):
    def test_good_headers_name_their_client(self) -> None:
        """Every kind of header names its client, or none, however much of what follows is there already."""
        for data, client in GOOD.items():
            for rest in (b"", b"\x03", b"GET / HTTP/1.1\r\n\r\n"):
                header = read_proxy_header(data + rest)
                assert header is not None
                found = header.client and (str(header.client[0]), header.client[1])
                self.assertEqual((client, len(data)), (found, header.size), data)

    def test_header_comes_in_pieces(self) -> None:
        """Until the last byte has come, more is asked for."""
        for data in GOOD:
            for cut in range(len(data)):
                self.assertIsNone(read_proxy_header(data[:cut]), data[:cut])

    def test_bad_headers_are_refused(self) -> None:
        """What begins as a header and is none is refused in words."""
        for data in BAD:
            error = self.assertRaises(PeerProtocolError, read_proxy_header, data)
            self.assertIn("PROXY header", str(error))

    def test_other_protocols_have_no_header(self) -> None:
        """Bytes of RTMP, HTTP and TLS are the client's own from the first that no header has."""
        for data in (b"\x03", b"GET /", b"POST", b"PUT", b"PROPFIND /", b"\x16\x03\x01", b"\r\nGET", b"\r\n\r\nX"):
            header = read_proxy_header(data)
            assert header is not None
            self.assertEqual((None, 0), (header.client, header.size), data)

    @given(
        st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"])
    )
    def test_any_bytes_are_decided(self, data: bytes, start: bytes) -> None:
        """Whatever arrives, it is a header, none, the beginning of one, or refused."""
        try:
            header = read_proxy_header(start + data)
        except PeerProtocolError:
            return
        self.assertTrue(header is None or header.size <= len(start + data))
