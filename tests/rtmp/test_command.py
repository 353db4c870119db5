from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.command import (
    CheckBandwidth,
    CloseStream,
    Connect,
    CreateStream,
    DeleteStream,
    FCPublish,
    FCUnpublish,
    GetStreamLength,
    Play,
    Publish,
    ReleaseStream,
    UnknownCommand,
    printable,
    read_command,
    read_data,
)
from rapidrtmp.rtmp.message import UnreadableError

from .amf_bytes import END, NULL, OBJECT, key, number, text


class ConnectTests(SynchronousTestCase):
    """The connect command as clients really send it."""

    def test_ffmpeg_says_what_is_kept(self) -> None:
        """Of what FFmpeg says of itself, application, tcUrl and software are kept."""
        data = (
            b"\x02\x00\x07connect"
            b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00"
            b"\x03"
            b"\x00\x03app\x02\x00\x04live"
            b"\x00\x04type\x02\x00\x0anonprivate"
            b"\x00\x08flashVer\x02\x00\x0dFMLE/3.0 Lavf"
            b"\x00\x05tcUrl\x02\x00\x15rtmp://127.0.0.1/live"
            b"\x00\x00\x09"
        )
        self.assertEqual(Connect(1.0, "live", "rtmp://127.0.0.1/live", "FMLE/3.0 Lavf"), read_command(data))

    def test_odd_objects_are_read(self) -> None:
        """Keys of another case, wrong types, nulls, lists, an ECMA array and values behind it are all met."""
        properties = (
            (key("app") + number(5))
            + (key("tcurl") + text("rtmp://h/live"))
            + (key("swfUrl") + NULL)
            + (key("fourCcList") + b"\x0a\0\0\0\x02" + text("hvc1") + text("Opus"))
            + END
        )
        expected = Connect(1.0, "", "rtmp://h/live", "")
        for opening in (OBJECT, b"\x08\0\0\0\0"):
            self.assertEqual(expected, read_command(text("connect") + number(1) + opening + properties + text("extra")))
        self.assertEqual(Connect(1.0, "", "", ""), read_command(text("connect") + number(1)))
        self.assertEqual(Connect(1.0, "", "", ""), read_command(text("connect") + number(1) + NULL))

    def test_secrets_do_not_show(self) -> None:
        """Tokens in application, tcUrl or name do not show when a command is printed."""
        commands = (
            Connect(1.0, "live?token=secret", "rtmp://h/live?token=secret", "x"),
            Publish(1.0, "k?token=secret", "live"),
            Play(1.0, "k?token=secret"),
        )
        self.assertNotIn("secret", repr(commands))


class CommandTests(SynchronousTestCase):
    """The other commands."""

    def test_named_commands_are_recognised(self) -> None:
        """Every command that is answered in its own way is recognised."""
        for name, expected in (
            ("createStream", CreateStream(4.0)),
            ("releaseStream", ReleaseStream(4.0)),
            ("FCPublish", FCPublish(4.0)),
            ("FCUnpublish", FCUnpublish(4.0)),
            ("_checkbw", CheckBandwidth(4.0)),
            ("getStreamLength", GetStreamLength(4.0)),
            ("play", Play(4.0, "k")),
            ("publish", Publish(4.0, "k", "live")),
            ("deleteStream", DeleteStream(4.0, None)),
            ("closeStream", CloseStream(4.0)),
            ("onBWDone", UnknownCommand(4.0, "onBWDone")),
        ):
            data = text(name) + number(4) + NULL + text("k")
            self.assertEqual(expected, read_command(data))
            self.assertEqual(type(expected), type(read_command(text(name.upper()) + data[3 + len(name) :])))

    def test_publish_kinds_live_by_default(self) -> None:
        """A publish is live unless it says record or append."""
        for said, kind in ((text("record"), "record"), (text("APPEND"), "append"), (text("x"), "live"), (b"", "live")):
            data = text("publish") + number(0) + NULL + text("k") + said
            self.assertEqual(Publish(0.0, "k", kind), read_command(data))
        self.assertEqual(Publish(0.0, "", "live"), read_command(text("publish") + number(0) + NULL + NULL))

    def test_delete_targets_are_whole_numbers(self) -> None:
        """A stream to delete is a whole number from 1; names and other numbers are none in particular."""
        for target, msid in (
            (number(1), 1),
            (number(2**32 - 1), 2**32 - 1),
            (number(0), None),
            (number(1.5), None),
            (number(-1), None),
            (number(float("nan")), None),
            (number(float("inf")), None),
            (number(1e300), None),
            (text("k"), None),
            (b"\x01\x01", None),
            (b"", None),
        ):
            data = text("deleteStream") + number(0) + NULL + target
            self.assertEqual(DeleteStream(0.0, msid), read_command(data), target)

    def test_transactions_that_want_answers(self) -> None:
        """A positive transaction id wants an answer; zero, none at all and things that are no id do not."""
        for data, wants_answer in (
            (number(2), True),
            (number(0), False),
            (number(-1), False),
            (number(float("nan")), False),
            (text("2"), False),
            (b"", False),
        ):
            self.assertIs(wants_answer, read_command(text("createStream") + data).wants_answer)

    def test_answers_want_none(self) -> None:
        """An answer is not answered, whatever its id."""
        for name in ("_result", "_error"):
            command = read_command(text(name) + number(7) + NULL)
            self.assertEqual(UnknownCommand(0.0, name), command)

    def test_amf3_has_a_byte_before(self) -> None:
        """A command of type 17 has a byte of its own in front, and may hold AMF3."""
        data = b"\x00" + text("connect") + number(1) + b"\x11\x0a\x0b\x01\x07app\x06\x09live\x01"
        self.assertEqual(Connect(1.0, "live", "", ""), read_command(data))

    def test_unreadable_arguments_are_left_out(self) -> None:
        """Arguments that are no AMF are left out; without name, transaction or object there is no command."""
        data = text("publish") + number(5) + NULL + text("k") + b"\x04"
        self.assertEqual(Publish(5.0, "k", "live"), read_command(data))
        for bad in (
            b"",
            b"\x04",
            number(1) + text("publish"),
            text("publish") + b"\xff",
            text("connect") + number(1) + OBJECT + key("app") + b"\xff",
        ):
            self.assertRaises(UnreadableError, read_command, bad)

    def test_printable_names_for_logs(self) -> None:
        """What a client calls itself or a command is fit for a log: short, and in one line."""
        self.assertEqual("a\N{REPLACEMENT CHARACTER}b", printable("a\nb"))
        self.assertEqual(64, len(printable("x" * 1000)))
        self.assertEqual(UnknownCommand(0.0, "\N{REPLACEMENT CHARACTER}"), read_command(text("\x1b")))

    @given(st.binary(max_size=100))
    def test_arbitrary_bytes_are_commands_or_not(self, data: bytes) -> None:
        """Whatever comes, it is a command or unreadable."""
        for read in (read_command, read_data):
            try:
                read(data)
            except UnreadableError:
                pass


class DataTests(SynchronousTestCase):
    """Data messages."""

    def test_metadata_without_the_instruction(self) -> None:
        """``@setDataFrame`` is an instruction, not the name."""
        values = text("onMetaData") + b"\x08\0\0\0\x14" + key("width") + number(1280) + END
        expected = ("onMetaData", [{"width": 1280.0}])
        self.assertEqual(expected, read_data(text("@setDataFrame") + values))
        self.assertEqual(expected, read_data(values))
        self.assertEqual(expected, read_data(b"\x00" + values))

    def test_unreadable_values_are_left_out(self) -> None:
        """Values that are no AMF are left out; without a name there is nothing."""
        self.assertEqual(("onFI", [None]), read_data(text("onFI") + NULL + b"\x04"))
        for bad in (b"", b"\x04", number(1), text("@setDataFrame"), text("@setDataFrame") + NULL):
            self.assertRaises(UnreadableError, read_data, bad)
