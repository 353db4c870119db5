from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.message import (
    MessageType,
    UnreadableError,
    UserControl,
    UserControlType,
    read_number,
    read_user_control,
    write_number,
    write_peer_bandwidth,
    write_user_control,
)


class ControlPayloadTests(SynchronousTestCase):
    """Payloads of protocol control and user control messages."""

    def test_number_of_32_bits(self) -> None:
        """A number is 32 bits, big-endian; what follows it is not looked at."""
        self.assertEqual(b"\x00\x26\x25\xa0", write_number(2_500_000))
        self.assertEqual(2_500_000, read_number(b"\x00\x26\x25\xa0"))
        self.assertEqual(2_500_000, read_number(b"\x00\x26\x25\xa0\x02"))

    def test_number_wraps_modulo_32_bits(self) -> None:
        """Acknowledgements count on past four gigabytes, modulo 2**32."""
        self.assertEqual(b"\x00\x00\x00\x05", write_number(2**32 + 5))

    def test_peer_bandwidth_has_a_type(self) -> None:
        """A window and a limit type."""
        self.assertEqual(b"\x00\x26\x25\xa0\x02", write_peer_bandwidth(2_500_000, 2))

    def test_user_control_has_a_type(self) -> None:
        """An event type of 16 bits and a number of 32."""
        self.assertEqual(b"\x00\x06\x00\x00\x04\xd2", write_user_control(UserControlType.PING_REQUEST, 1234))
        self.assertEqual(UserControl(6, 1234), read_user_control(b"\x00\x06\x00\x00\x04\xd2"))
        self.assertEqual(UserControl(3, 1), read_user_control(b"\x00\x03\x00\x00\x00\x01\x00\x00\x0b\xb8"))
        self.assertEqual(b"\x00\x07\x00\x00\x00\x01", write_user_control(UserControlType.PING_RESPONSE, 2**32 + 1))

    def test_short_payloads_are_unreadable(self) -> None:
        """Every payload that is cut short is unreadable."""
        for size in range(4):
            self.assertRaises(UnreadableError, read_number, bytes(size))
        for size in range(6):
            self.assertRaises(UnreadableError, read_user_control, bytes(size))

    def test_types_are_the_specified_numbers(self) -> None:
        """Message types are the numbers of the specification."""
        self.assertEqual([1, 2, 3, 4, 5, 6, 8, 9, 15, 17, 18, 20, 22], [int(member) for member in MessageType])
