from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.amf0 import read_values
from rapidrtmp.rtmp.chunk import Message
from rapidrtmp.rtmp.events import (
    CommandIgnored,
    ConnectRequested,
    Event,
    PlayEnded,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    VideoReceived,
)
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.rtmp.session import State
from tests.rtmp.amf_bytes import END, NULL, OBJECT, key, number, text
from tests.rtmp.chunks import set_chunk_size
from tests.rtmp.client import HANDSHAKE, Client, Status, command, connect, message, publish

CREATE_STREAM_RESULT = (
    b"\x02\x00\x07_result"
    b"\x00\x40\x10\x00\x00\x00\x00\x00\x00"
    b"\x05"
    b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00"
)  # fmt: skip
PUBLISH_START = Status(1, "status", "NetStream.Publish.Start")
SECOND_PUBLISH = Status(1, "error", "NetStream.Publish.BadName")


def capable_client(capabilities: bytes) -> Client:
    """A client that publishes, and has sent this as its ``capsEx``."""
    client = Client()
    properties = OBJECT + key("app") + text("live") + key("capsEx") + capabilities + END
    client.say(HANDSHAKE, command("connect", 1, properties=properties), command("createStream", 4), publish())
    client.session.accept_publish(1)
    client.heard()
    return client


class ConnectTests(SynchronousTestCase):
    """Connecting to an application."""

    def heard_after(self, data: bytes) -> list[Message]:
        client = Client()
        client.say(HANDSHAKE + data)
        return client.heard()

    def test_answers_come_in_order(self) -> None:
        """The client gets window, bandwidth and chunk size, and then learns that it is connected, in this order."""
        *control, result = self.heard_after(connect())
        expected = [
            (5, b"\x00\x26\x25\xa0"),
            (6, b"\x00\x26\x25\xa0\x02"),
            (1, b"\x00\x01\x00\x00"),
        ]
        self.assertEqual(expected, [(heard.type_id, heard.payload) for heard in control])
        self.assertEqual({(0, 0)}, {(heard.msid, heard.timestamp) for heard in [*control, result]})
        self.assertEqual(20, result.type_id)

    def test_result_has_both_objects(self) -> None:
        """The result has both objects that clients look for, each saying what Enhanced RTMP we take."""
        name, transaction, server, information = read_values(self.heard_after(connect())[-1].payload)
        self.assertEqual(("_result", 1.0), (name, transaction))
        enhanced = {
            "fourCcList": ["avc1", "mp4a"],
            "videoFourCcInfoMap": {"avc1": 4.0},
            "audioFourCcInfoMap": {"mp4a": 4.0},
            "capsEx": 15.0,  # reconnect, multitrack, ModEx, nanoseconds
        }
        self.assertEqual({"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0, "mode": 1.0, **enhanced}, server)
        success = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "Connection succeeded.",
            "objectEncoding": 0.0,
        }
        self.assertEqual(success | enhanced, information)

    def test_event_without_the_secrets(self) -> None:
        """What is known of the client is reported, without the secrets in its URLs."""
        seen = Client().say(HANDSHAKE, connect("a/b?token=secret", "rtmp://u:secret@h:1935/a/b?token=secret", "x\ny"))
        self.assertEqual([ConnectRequested("a/b", "h", "x\N{REPLACEMENT CHARACTER}y")], seen)
        self.assertNotIn("secret", repr(seen))

    def test_empty_connect_is_connected(self) -> None:
        """A client that tells nothing of itself is connected all the same."""
        self.assertEqual([ConnectRequested("", "", "")], Client().say(HANDSHAKE, command("connect", 1)))

    def test_flash_encoding_is_understood(self) -> None:
        """A connect in an AMF3 message is understood, and answered in AMF0."""
        client = Client()
        payload = b"\0" + text("connect") + number(1) + OBJECT + key("app") + text("live") + END
        self.assertEqual([ConnectRequested("live", "", "")], client.say(HANDSHAKE, message(17, payload, msid=0)))
        self.assertEqual(20, client.heard()[-1].type_id)

    def test_too_long_connect_is_answered(self) -> None:
        """A connect of absurd length is answered with the reason, and closes the session."""
        for data, what in ((connect(app="a" * 8193), "app"), (connect(tc_url="t" * 9217), "tcUrl")):
            client = Client()
            self.assertRaises(PeerProtocolError, client.say, HANDSHAKE, data)
            ((name, transaction, _, information),) = client.heard_commands()
            self.assertEqual(("_error", 1.0), (name, transaction))
            self.assertEqual("NetConnection.Connect.Rejected", information["code"])
            self.assertIn(what, str(information["description"]))

    def test_second_connect_breaks_protocol(self) -> None:
        """A second connect breaks the protocol: a connection belongs to one application."""
        self.assertRaises(PeerProtocolError, Client().connected().say, connect("other"))

    def test_too_early_commands_break_protocol(self) -> None:
        """Known commands before connect break the protocol, unknown ones are ignored."""
        client = Client()
        self.assertEqual([CommandIgnored("hello")], client.say(HANDSHAKE, command("hello", 0)))
        self.assertRaises(PeerProtocolError, client.say, command("createStream", 2))


class EncoderTests(SynchronousTestCase):
    """Publishing as each kind of encoder does it."""

    def accepted(self, client: Client, msid: int, *data: bytes) -> None:
        """Say what leads to one request to publish, and accept that."""
        (request,) = client.say(*data)
        self.assertEqual(PublishRequested(msid, "live", "k", {"token": "secret"}, "live"), request)
        self.assertNotIn("secret", repr(request))
        client.session.accept_publish(msid)
        self.assertIs(State.PUBLISHING, client.session.state)

    def test_ffmpeg_speaks_and_publishes(self) -> None:
        """FFmpeg: releaseStream, FCPublish, createStream, publish; FCUnpublish and deleteStream at the end."""
        client = Client().connected()
        name = text("k?token=secret")
        self.assertEqual([], client.say(command("releaseStream", 2, name), command("FCPublish", 3, name)))
        self.assertEqual([["_result", 2.0, None, None], ["_result", 3.0, None, None]], client.heard_commands())
        client.say(command("createStream", 4))
        (heard,) = client.heard()
        self.assertEqual(CREATE_STREAM_RESULT, heard.payload)
        self.accepted(client, 1, publish())
        begin, notice, status = client.heard()
        self.assertEqual((4, 0, b"\x00\x00\x00\x00\x00\x01"), (begin.type_id, begin.msid, begin.payload))
        self.assertEqual("onFCPublish", next(read_values(notice.payload)))
        self.assertEqual((20, 1), (status.type_id, status.msid))
        ending = command("FCUnpublish", 6, name), command("deleteStream", 7, number(1))
        self.assertEqual([PublishEnded(1, "FCUnpublish")], client.say(*ending))
        self.assertIs(State.CONNECTED, client.session.state)

    def test_obs_speaks_and_publishes(self) -> None:
        """OBS (librtmp): the same, behind a chunk size of its own that comes before connect."""
        client = Client()
        client.say(HANDSHAKE, set_chunk_size(4096), connect())
        client.heard()
        opening = command("releaseStream", 2, text("k")), command("FCPublish", 3, text("k")), command("createStream", 4)
        client.say(*opening)
        self.assertEqual(["_result"] * 3, [values[0] for values in client.heard_commands()])
        self.accepted(client, 1, publish())
        self.assertEqual([PUBLISH_START], client.heard_statuses())
        ending = command("FCUnpublish", 6, text("k")), command("deleteStream", 7, number(1))
        self.assertEqual([PublishEnded(1, "FCUnpublish")], client.say(*ending))

    def test_gstreamer_speaks_and_publishes(self) -> None:
        """GStreamer wants no answers to its politeness, a status on its stream, and deletes by name."""
        client = Client().connected()
        client.say(command("releaseStream", 0, text("k")), command("FCPublish", 0, text("k")))
        self.assertEqual([], client.heard())
        client.say(command("createStream", 4))
        self.assertEqual([["_result", 4.0, None, 1.0]], client.heard_commands())
        self.accepted(client, 1, command("publish", 0, text("k?token=secret"), text("live"), msid=1))
        self.assertEqual([PUBLISH_START], client.heard_statuses())
        ending = command("FCUnpublish", 0, text("k")), command("deleteStream", 0, text("k"), msid=0)
        self.assertEqual([PublishEnded(1, "FCUnpublish")], client.say(*ending))

    def test_delete_by_name_alone(self) -> None:
        """A name for a stream to delete means the publish."""
        client = Client().publishing()
        self.assertEqual([PublishEnded(1, "deleteStream")], client.say(command("deleteStream", 0, text("k"))))
        self.assertEqual([], client.heard())

    def test_flash_media_live_encoder(self) -> None:
        """FMLE: onFCPublish comes before the status, onFCUnpublish with the end."""
        client = Client().connected()
        client.say(command("releaseStream", 2, text("k")), command("FCPublish", 3, text("k")))
        client.heard()
        self.accepted(client, 1, command("createStream", 4), publish())
        _created, notice, status = client.heard_commands()
        information = {"code": "NetStream.Publish.Start", "description": "Publishing."}
        self.assertEqual(["onFCPublish", 0.0, None, information], notice)
        self.assertEqual("onStatus", status[0])
        self.assertEqual([PublishEnded(1, "FCUnpublish")], client.say(command("FCUnpublish", 6, text("k"))))
        notice, result = client.heard_commands()
        self.assertEqual("onFCUnpublish", notice[0])
        self.assertEqual("NetStream.Unpublish.Success", notice[3]["code"])
        self.assertEqual(["_result", 6.0, None, None], result)

    def test_no_promise_before_acceptance(self) -> None:
        """FCPublish alone is not answered that publishing has begun."""
        client = Client().connected()
        client.say(command("FCPublish", 3, text("k")), publish())
        client.session.reject_publish(1, "NetStream.Publish.Denied", "No.")
        self.assertNotIn("onFCPublish", [values[0] for values in client.heard_commands()])

    def test_haishinkit_speaks_and_publishes(self) -> None:
        """HaishinKit: nulls and a list of codecs in connect, then FCPublish after createStream."""
        client = Client()
        properties = (
            (OBJECT + key("app") + text("live"))
            + (key("swfUrl") + NULL)
            + (key("fourCcList") + b"\x0a\0\0\0\x02" + text("hvc1") + text("Opus"))
            + END
        )
        client.say(HANDSHAKE, command("connect", 1, properties=properties))
        client.heard()
        opening = command("createStream", 2), command("releaseStream", 3, text("k")), command("FCPublish", 4, text("k"))
        client.say(*opening)
        self.accepted(client, 1, publish())
        self.assertEqual([PUBLISH_START], client.heard_statuses())
        self.assertEqual([PublishEnded(1, "closeStream")], client.say(command("closeStream", 0, msid=1)))

    def test_check_bandwidth_is_answered(self) -> None:
        """Hardware that checks the bandwidth first gets an answer."""
        client = Client().connected()
        client.say(command("_checkbw", 2))
        self.assertEqual([["_result", 2.0, None, None]], client.heard_commands())

    def test_publish_without_create_stream(self) -> None:
        """A publish on message stream 0 is one like others, and answered there."""
        client = Client().connected()
        self.accepted(client, 0, publish(msid=0))
        self.assertEqual([Status(0, "status", "NetStream.Publish.Start")], client.heard_statuses())
        self.assertEqual([PublishEnded(0, "deleteStream")], client.say(command("deleteStream", 0, number(1))))

    def test_create_stream_twice(self) -> None:
        """A second message stream has the next number, may be published on, and deleting the first changes nothing."""
        client = Client().connected()
        client.say(command("createStream", 2), command("createStream", 3))
        self.assertEqual([1.0, 2.0], [values[3] for values in client.heard_commands()])
        self.accepted(client, 2, publish(msid=2))
        self.assertEqual([], client.say(command("deleteStream", 0, number(1))))
        self.assertEqual([PublishEnded(2, "deleteStream")], client.say(command("deleteStream", 0, number(2))))

    def test_publish_again_after_the_end(self) -> None:
        """After its end, a connection may publish again."""
        client = Client().publishing()
        client.say(command("deleteStream", 0, number(1)))
        self.accepted(client, 1, command("createStream", 8), publish())

    def test_one_segment_url(self) -> None:
        """A URL that names no application publishes in the default one."""
        client = Client(default_app="studio")
        client.say(HANDSHAKE, connect("k?token=secret", "rtmp://h/k?token=secret"))
        (request,) = client.say(publish(""))
        self.assertEqual(PublishRequested(1, "studio", "k", {"token": "secret"}, "live"), request)


class RefusalTests(SynchronousTestCase):
    """What is not done, and how that is said."""

    def test_second_publish_is_refused(self) -> None:
        """A connection publishes one stream: a second is refused, and the first continues."""
        client = Client().publishing()
        self.assertEqual([CommandIgnored("publish")], client.say(publish("other")))
        self.assertEqual([SECOND_PUBLISH], client.heard_statuses())
        self.assertIs(State.PUBLISHING, client.session.state)
        client = Client().connected()
        client.say(publish(), publish("other", msid=1))
        self.assertIs(State.PUBLISH_PENDING, client.session.state)

    def test_bad_names_are_not_quoted(self) -> None:
        """A name that cannot be one is refused at once, without quoting it."""
        for name in ("../secret", "secret\\k", "k\nsecret", "secret" * 1366):
            client = Client().connected()
            self.assertEqual([CommandIgnored("publish")], client.say(publish(name)))
            (heard,) = client.heard()
            self.assertIn(b"NetStream.Publish.BadName", heard.payload)
            self.assertNotIn(b"secret", heard.payload)
            self.assertIs(State.CONNECTED, client.session.state)

    def test_long_token_is_taken(self) -> None:
        """A token may be as long as 8 KiB, behind the stream's name or behind the application's."""
        token = "t" * 8000
        for said in ((connect(), publish(f"k?token={token}")), (connect(app=f"live?token={token}"), publish("k"))):
            client = Client()
            request = client.say(HANDSHAKE, *said)[-1]
            self.assertEqual(PublishRequested(1, "live", "k", {"token": token}, "live"), request)

    def test_odd_transactions_are_answered(self) -> None:
        """Some encoders wait for the answer to a createStream with the transaction id 0 or -1: it is answered."""
        client = Client().connected()
        client.say(command("createStream", 0), command("createStream", -1))
        expected: list[list[Value]] = [["_result", 0.0, None, 1.0], ["_result", -1.0, None, 2.0]]
        self.assertEqual(expected, client.heard_commands())

    def test_reject_connect_with_reason(self) -> None:
        """A connection can be refused: the client is given the reason, and the session is closed."""
        session = Client().session
        session.receive_data(HANDSHAKE + connect("other") + command("createStream", 2))
        seen: list[Event] = []
        for event in session.events():
            seen.append(event)
            session.reject_connect("NetConnection.Connect.InvalidApp", "There is no application 'other'.")
        self.assertEqual([ConnectRequested("other", "media.example.org", "FMLE/3.0")], seen)
        self.assertIs(State.CLOSED, session.state)
        self.assertIn(b"InvalidApp", session.data_to_send())

    def test_key_for_application(self) -> None:
        """A URL of one segment with a query may name the key alone; one with more segments, or no query, does not."""
        for app, expected in (("k?token=x", True), ("k", False), ("live/k?token=x", False), ("", False)):
            (event, *_) = Client().say(HANDSHAKE, connect(app, "rtmp://h/"))
            assert isinstance(event, ConnectRequested)
            self.assertIs(expected, event.app_may_be_key, app)

    def test_properties_are_there_to_see(self) -> None:
        """What a client says of itself in connect is there to be looked at."""
        (event, *_) = Client().say(HANDSHAKE, connect(), command("hello", 0))
        assert isinstance(event, ConnectRequested)
        self.assertEqual("nonprivate", event.properties["type"])

    def test_reconnect_request_where_declared(self) -> None:
        """A client that declares it can is asked to connect again, there or elsewhere, and its media is still taken."""
        client = capable_client(number(1 | 2))
        self.assertTrue(client.session.request_reconnect("The server restarts."))
        self.assertTrue(client.session.request_reconnect("The server moves.", "rtmp://other.example.org/live"))
        asked = [(heard.msid, *list(read_values(heard.payload))[-1].items()) for heard in client.heard()]  # type: ignore[union-attr]
        code = ("code", "NetConnection.Connect.ReconnectRequest")
        self.assertEqual(
            [
                (0, ("level", "status"), code, ("description", "The server restarts.")),
                (
                    *(0, ("level", "status"), code, ("description", "The server moves.")),
                    ("tcUrl", "rtmp://other.example.org/live"),
                ),
            ],
            asked,
        )
        self.assertEqual([VideoReceived(1, 0, b"\x17")], client.say(message(9, b"\x17")))

    def test_no_reconnect_request(self) -> None:
        """A client that has not declared it, or oddly, or that is gone, is not asked."""
        odd = (number(2 | 4 | 8), text("1"), number(float("nan")), number(-1), number(1.5), number(2.0**40))
        for caps in odd:
            client = capable_client(caps)
            self.assertFalse(client.session.request_reconnect("The server restarts."))
            self.assertEqual([], client.heard())
        client = capable_client(number(1))
        client.session.refuse_connection("No more.")
        client.heard()
        self.assertFalse(client.session.request_reconnect("The server restarts."))

    def test_accepted_play_is_answered(self) -> None:
        """A play that is accepted is answered in the order players wait for, and ends once."""
        client = Client().connected()
        client.say(command("createStream", 2), command("play", 0, text("k"), msid=1))
        client.heard()
        client.session.accept_play(1)
        client.session.send_video(40, b"v")
        begin, reset, start, access, video = client.heard()
        self.assertEqual((4, b"\0\0\0\0\0\1"), (begin.type_id, begin.payload))
        self.assertIn(b"NetStream.Play.Reset", reset.payload)
        self.assertIn(b"NetStream.Play.Start", start.payload)
        self.assertEqual(["|RtmpSampleAccess", True, True], list(read_values(access.payload)))
        self.assertEqual(Message(9, 1, 40, b"v", 6), video)
        self.assertEqual([CommandIgnored("publish")], client.say(publish()))
        self.assertEqual([PlayEnded(1, "closeStream")], client.say(command("closeStream", 0, msid=1)))
        self.assertEqual([], client.say(command("deleteStream", 0, number(1))))

    def test_play_is_refused(self) -> None:
        """A player learns that there is nothing here, and to watch over HLS."""
        client = Client().connected()
        client.say(command("createStream", 2), command("getStreamLength", 3, text("k")))
        self.assertEqual([1.0, 0.0], [values[3] for values in client.heard_commands()])
        (request,) = client.say(command("play", 4, text("k?token=secret"), msid=1))
        self.assertEqual(PlayRequested(1, "live", "k", {"token": "secret"}), request)
        self.assertNotIn("secret", repr(request))
        client.session.reject_play(1, "NetStream.Play.StreamNotFound", "Watch over HLS instead.")
        ((_, _, _, information),) = client.heard_commands()
        self.assertEqual(("error", "NetStream.Play.StreamNotFound"), (information["level"], information["code"]))
        self.assertIn("HLS", str(information["description"]))
        self.assertEqual([CommandIgnored("play")], client.say(command("play", 5, text("../k"), msid=1)))

    def test_unknown_commands_are_ignored(self) -> None:
        """An unknown command is ignored; a client that waits for an answer learns that it failed."""
        client = Client().connected()
        self.assertEqual([CommandIgnored("FCSubscribe")], client.say(command("FCSubscribe", 9, text("k"))))
        ((name, transaction, nothing, information),) = client.heard_commands()
        self.assertEqual(("_error", 9.0, None), (name, transaction, nothing))
        self.assertEqual("NetConnection.Call.Failed", information["code"])
        client.say(command("onBWDone", 0), command("_result", 3))
        self.assertEqual([], client.heard())

    def test_ending_nothing_is_no_error(self) -> None:
        """Ending what was never begun, or ending twice, is no event and no error."""
        client = Client().connected()
        for name in ("FCUnpublish", "deleteStream", "closeStream"):
            self.assertEqual([], client.say(command(name, 0, number(1))))

    def test_giving_up_is_said_once(self) -> None:
        """A publish given up before it was answered is over, and said once."""
        client = Client().connected()
        client.say(publish())
        self.assertEqual([PublishEnded(1, "closeStream")], client.say(command("closeStream", 0, msid=1)))
        self.assertIs(State.CONNECTED, client.session.state)

    def test_too_many_streams(self) -> None:
        """Eight message streams are enough; deleted ones are free again."""
        client = Client().connected()
        client.say(command("createStream", 2) * 8)
        client.say(command("deleteStream", 0, number(5)), command("createStream", 3))
        self.assertEqual(5.0, client.heard_commands()[-1][3])
        self.assertRaises(PeerProtocolError, client.say, command("createStream", 4))

    def test_too_many_commands(self) -> None:
        """Commands without end and without a publish break the connection, those of a publisher do not."""
        limits = SessionLimits(unpublished_commands=10)
        client = Client(limits).connected()
        client.say(command("_checkbw", 2) * 9)
        self.assertRaises(PeerProtocolError, client.say, command("_checkbw", 2))
        client = Client(limits).publishing()
        self.assertEqual(100, len(client.say(command("onSomething", 0) * 100)))
