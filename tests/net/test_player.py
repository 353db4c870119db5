"""Play over RTMP, through real sessions: who may, what comes first, and what ends it."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from rapidrtmp.interfaces import IPlayAuthenticator, PlayRequest, Verdict
from rapidrtmp.names import StreamName
from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.play.feed import Feed
from rapidrtmp.rtmp.amf0 import read_values, write_values
from rapidrtmp.rtmp.chunk import Message
from tests.codec.builders import audio_config, on_track, picture, sound, video_config
from tests.rtmp.amf_bytes import number
from tests.rtmp.client import HANDSHAKE, command, message

from .edge import NAME, Peer, media
from .test_connection import EdgeCase

NOT_FOUND, FAILED = "NetStream.Play.StreamNotFound", "NetStream.Play.Failed"
START, STOP = "NetStream.Play.Start", "NetStream.Play.Stop"
#: In AMF0.
NO, YES = b"\x01\x00", b"\x01\x01"
#: The configuration of HEVC Main in 320x180, as x265 makes it.
HEVC_CONFIG = bytes.fromhex(
    "9068766331 0101600000009000000000003CF000FCFDF8F800000F03"
    "2000010018 40010C01FFFF01600000030090000003000003003C959009"
    "210001002B 42010101600000030090000003000003003CA00A080C1F3E595912930BC05A020000030002000003003C10"
    "2200010006 4401C073C189"
)


def outline(messages: list[Message]) -> list[str]:
    """What was sent, one word for each message."""
    return [_word(each) for each in messages]


def _word(sent: Message) -> str:
    payload = sent.payload
    match sent.type_id:
        case 9:
            return "video config" if payload[1] == 0 else "keyframe" if payload[0] == 0x17 else "picture"
        case 8:
            return "audio config" if payload[1] == 0 else "sound"
        case 18:
            return str(next(read_values(payload)))
        case 20:
            *_, said = read_values(payload)
            return str(said["code"]) if isinstance(said, dict) else "answer"
        case 4:
            return f"control {payload[1]}"
        case 1:
            return f"chunk size {int.from_bytes(payload, 'big')}"
        case other:
            return f"type {other}"


@implementer(IPlayAuthenticator)
class OneToken:
    """Lets in who shows the token ``secret``."""

    def __init__(self) -> None:
        self.requests: list[PlayRequest] = []

    def authorize_play(self, request: PlayRequest) -> Verdict:
        self.requests.append(request)
        return Verdict(request.token == "secret", reason="there is a token to be shown")


class PlayerCase(EdgeCase):
    def publish(self, seconds: int = 3, start_ms: int = 0) -> Peer:
        """A publisher that has sent so much."""
        peer = self.edge.publisher()
        peer.say(*media(seconds, start_ms))
        return peer

    def player(self, name: str = "k", host: str = "192.0.2.9", **properties: Any) -> Peer:
        """A connection that has asked to play, with the answers up to that left out."""
        peer = self.edge.peer(host)
        said = write_values({"app": "live", "flashVer": "LNX 9,0,124,2", **properties})
        peer.say(HANDSHAKE + command("connect", 1, properties=said), command("createStream", 2))
        peer.heard()
        peer.play(name)
        self.turn()
        return peer

    def turn(self) -> None:
        """Let the reactor turn, and what is gathered be sent."""
        self.edge.clock.pump([0, 0.05])

    def codes(self, peer: Peer) -> list[str]:
        return [code for _, code, _ in peer.statuses()]


class BeginningTests(PlayerCase):
    def test_play_begins_at_a_recent_keyframe(self) -> None:
        """A player gets what describes the stream, then the newest keyframe that is not too new, and all since."""
        self.publish()
        messages = self.player().heard()
        words = outline(messages)
        self.assertEqual(
            [
                *("chunk size 16777215", "control 0", "NetStream.Play.Reset", START, "|RtmpSampleAccess", "onMetaData"),
                *("video config", "audio config", "keyframe"),
            ],
            words[:9],
        )
        self.assertEqual(2, words.count("keyframe"))  # the newest is 0.96 s old: FFmpeg wants more
        self.assertEqual(48, words.count("picture"))
        first = messages[8]
        self.assertEqual({first.timestamp}, {each.timestamp for each in messages[6:9]})
        self.assertEqual({1}, {each.msid for each in messages if each.type_id in (8, 9, 18)})

    def test_frames_follow_as_they_come(self) -> None:
        """What is published then comes in order, each picture in the turn in which it came."""
        publisher, player = self.publish(), self.player()
        player.heard()
        for index in range(3):
            publisher.say(message(9, picture(index == 0, mark=200 + index), timestamp=3000 + 40 * index))
            self.edge.clock.advance(0)
            self.assertEqual(["keyframe" if index == 0 else "picture"], outline(player.heard()))

    def test_two_players_share_the_rendering(self) -> None:
        """Players who take the same are served from one rendering, which is gone with the last of them."""
        self.publish()
        first, second = self.player(), self.player(host="192.0.2.10")
        stream = self.edge.registry.find(NAME)
        self.assertEqual({"rtmp": 2, "http": 0, "websocket": 0}, self.edge.players.count(stream))
        assert stream is not None
        self.assertIn("play", stream.fan_out.names)
        for peer in (first, second):
            peer.leave()
        self.assertNotIn("play", stream.fan_out.names)

    def test_absent_stream_is_waited_for(self) -> None:
        """A player of a stream that comes later plays it from its beginning."""
        player = self.player()
        self.assertEqual([], player.heard())
        self.edge.wait(8)
        self.publish()
        self.edge.wait(0.5)
        self.assertIn("keyframe", outline(player.heard()))

    def test_absent_stream_is_not_found(self) -> None:
        """After ten seconds it is said that there is none, and the connection is closed."""
        player = self.player()
        self.edge.wait(9.5)
        self.assertFalse(player.is_closed)
        self.edge.wait(1)
        self.assertEqual([NOT_FOUND], self.codes(player))
        self.assertTrue(player.is_closed)

    def test_player_that_leaves_waits_no_more(self) -> None:
        """A player that is gone is not waited for."""
        player = self.player()
        player.leave()
        self.edge.wait(1)
        self.assertEqual(1, len(self.edge.clock.getDelayedCalls()))  # by which connections are watched

    def test_unknown_renditions_and_tracks(self) -> None:
        """What the stream does not have is not found, at once."""
        self.publish()
        for query in ("rendition=360p", "video=2", "audio=x", "only=subtitles"):
            player = self.player(f"k?{query}")
            self.assertEqual([NOT_FOUND], self.codes(player), query)

    def test_one_kind_alone(self) -> None:
        """Audio alone, or video alone, can be asked for."""
        self.publish()
        words = outline(self.player("k?only=audio").heard())
        self.assertEqual([], [word for word in words if word in ("keyframe", "picture", "video config")])
        self.assertIn("sound", words)
        words = outline(self.player("k?only=video").heard())
        self.assertNotIn("sound", words)
        self.assertIn("keyframe", words)

    def test_second_form_of_the_command(self) -> None:
        """``play2`` has the name in an object."""
        self.publish()
        peer = self.edge.peer("192.0.2.9").connect()
        peer.heard()
        peer.say(command("play2", 0, write_values({"streamName": "k"}), msid=1))
        self.turn()
        self.assertIn("keyframe", outline(peer.heard()))


class AdmissionTests(PlayerCase):
    def test_token_is_needed(self) -> None:
        """Where watching needs a token, it is in the query; the refusal says so and tells no secret."""
        judge = self.edge.apps["live"].play_authenticator = OneToken()
        self.publish()
        refused = self.player("k?token=wrong")
        ((level, code, description),) = refused.statuses()
        self.assertEqual(("error", FAILED, "there is a token to be shown"), (level, code, description))
        self.assertTrue(refused.is_closed)
        self.assertIn("keyframe", outline(self.player("k?token=secret&x=1").heard()))
        self.assertEqual(("x=1", NAME), (judge.requests[-1].query, judge.requests[-1].stream))

    def test_players_are_viewers(self) -> None:
        """Each player is counted among the viewers as long as it is there."""
        self.publish()
        players = [self.player(), self.player()]
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual(2, stream.viewers.count(0))
        self.edge.wait(20)
        self.assertEqual(2, stream.viewers.count(20_000))
        for peer in players:
            peer.leave()
        self.assertEqual(0, stream.viewers.count(20_000))

    def test_seats_are_limited(self) -> None:
        """A player for whom there is no seat is refused."""
        app = self.edge.apps["live"]
        app.limits = type(app.limits)(max_viewers_per_stream=1)
        self.publish()
        self.player()
        player = self.player(host="192.0.2.10")
        self.assertEqual([FAILED], self.codes(player))

    def test_names_that_are_none(self) -> None:
        """A name that can be none is not found; an application that does not exist likewise."""
        for name in ("k/../x", "k k", "k" * 129):
            self.assertEqual([NOT_FOUND], self.codes(self.player(name)), name)


class CodecTests(PlayerCase):
    def publish_hevc(self) -> None:
        peer = self.edge.publisher()
        nal = bytes.fromhex("2601AF0000")
        frame = len(nal).to_bytes(4, "big") + nal
        peer.say(message(9, HEVC_CONFIG), message(8, audio_config()))
        for index in range(60):
            first = b"\x93hvc1" if index == 0 else b"\xa3hvc1"
            unit = frame if index == 0 else frame.replace(b"\x26\x01", b"\x02\x01")
            peer.say(message(9, first + unit, timestamp=40 * index))
        self.edge.wait(3)

    def test_codec_for_silent_and_declared_players(self) -> None:
        """HEVC goes to players that declare it, and to those that declare nothing; others are refused."""
        self.publish_hevc()
        for properties in ({}, {"fourCcList": ["hvc1"]}, {"fourCcList": ["*"]}):
            messages = self.player(**properties).heard()
            bodies = [each.payload[:5] for each in messages if each.type_id == 9]
            self.assertEqual([b"\x90hvc1", b"\x93hvc1"], bodies[:2], properties)
        refused = self.player(fourCcList=["av01"])
        ((_, code, description),) = refused.statuses()
        self.assertEqual(FAILED, code)
        self.assertIn("HEVC", description)

    def test_tracks_for_declared_players(self) -> None:
        """Further tracks go to players that take several; to others goes the first one, or that which they ask for."""
        peer = self.edge.publisher()
        peer.say(message(9, video_config()), message(8, audio_config()), message(8, on_track(1, audio_config())))
        for at in range(100):
            peer.say(message(9, picture(at % 25 == 0), timestamp=40 * at))
            for payload in (sound(at), on_track(1, sound(1000 + at))):
                peer.say(message(8, payload, timestamp=1024 * 2 * at // 48))
        self.edge.wait(3)
        first, further = b"\xaf", b"\x95"
        for name, properties, expected in (
            ("k", {}, {first}),
            ("k", {"fourCcList": ["*"]}, {first}),
            ("k", {"fourCcList": ["*"], "capsEx": 2}, {first, further}),
            ("k?audio=1", {}, {first}),
        ):
            heard = self.player(name, **properties).heard()
            bodies = [each.payload for each in heard if each.type_id == 8]
            self.assertEqual(expected, {body[:1] for body in bodies}, (name, properties))
            marks = {int.from_bytes(body[-4:], "big") >= 1000 for body in bodies if body[1] == 1}
            self.assertEqual("audio=1" in name or further in expected, True in marks, (name, properties))

    def test_end_of_tracks_for_declared_players(self) -> None:
        """A player that declares what it takes learns the end of each track before the stream's; others do not."""
        self.publish_hevc()
        declared, silent = self.player(fourCcList=["hvc1"]), self.player(host="192.0.2.10")
        for peer in (declared, silent):
            peer.heard()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.edge.registry.end(stream, "the test is over")
        ends = {peer: [each.payload for each in peer.heard() if each.type_id == 9] for peer in (declared, silent)}
        self.assertEqual({declared: [b"\x92hvc1"], silent: []}, ends)


class CommandTests(PlayerCase):
    def test_pause_and_its_end(self) -> None:
        """A player that pauses is sent nothing; afterwards it begins at the newest keyframe."""
        publisher, player = self.publish(), self.player()
        player.heard()
        player.say(command("pause", 0, YES, number(0), msid=1))
        publisher.say(*media(2, 3000))
        self.turn()
        self.assertEqual(["NetStream.Pause.Notify"], outline(player.heard()))
        player.say(command("pause", 0, NO, number(0), msid=1))
        self.turn()
        words = outline(player.heard())
        self.assertEqual(["NetStream.Unpause.Notify", "onMetaData", "video config"], words[:3])
        self.assertEqual(1, words.count("keyframe"))

    def test_kinds_are_left_out(self) -> None:
        """receiveVideo and receiveAudio leave out what is not wanted, and begin again at a keyframe."""
        publisher, player = self.publish(), self.player()
        player.heard()
        player.say(command("receiveVideo", 0, NO, msid=1))
        publisher.say(*media(1, 3000))
        self.turn()
        self.assertEqual({"sound", "onMetaData", "audio config"}, set(outline(player.heard())))
        player.say(command("receiveAudio", 0, NO, msid=1), command("receiveVideo", 0, YES, msid=1))
        self.turn()
        words = outline(player.heard())
        self.assertEqual(["onMetaData", "video config", "keyframe"], words[:3])
        self.assertNotIn("sound", words)

    def test_seek_is_refused(self) -> None:
        """A seek is answered with an error, and changes nothing."""
        self.publish()
        player = self.player()
        player.heard()
        player.say(command("seek", 7, number(1000), msid=1))
        self.assertEqual(["NetStream.Seek.Failed"], outline(player.heard()))
        self.assertFalse(player.is_closed)

    def test_play_ends_by_command(self) -> None:
        """closeStream and deleteStream end the play; the connection can play again."""
        publisher = self.publish()
        for name in ("closeStream", "deleteStream"):
            player = self.player()
            player.heard()
            player.say(command(name, 0, number(1), msid=1))
            publisher.say(message(9, picture(False), timestamp=5000))
            self.turn()
            self.assertEqual([], outline(player.heard()))
            player.play()
            self.turn()
            self.assertIn(START, outline(player.heard()))
            player.leave()


class EndTests(PlayerCase):
    def test_publisher_returns_in_time(self) -> None:
        """While the publisher is gone nothing is sent, and then the stream continues, new configuration first."""
        publisher, player = self.publish(), self.player()
        player.heard()
        publisher.leave()
        self.edge.wait(3)
        self.assertEqual([], outline(player.heard()))
        publisher = self.edge.publisher()
        publisher.say(message(9, video_config(width_mbs=40)), *list(media(2))[1:])
        self.edge.wait(0.5)
        words = outline(player.heard())
        self.assertEqual(["onMetaData", "video config"], words[:2])
        self.assertLess(words.index("video config"), words.index("keyframe"))
        self.assertFalse(player.is_closed)

    def test_stream_ends_for_players(self) -> None:
        """When the publisher does not return the player learns it in both ways that players know, and is closed."""
        publisher, player = self.publish(), self.player()
        player.heard()
        publisher.leave()
        self.edge.wait(6.5)
        self.assertEqual(["control 1", STOP], outline(player.heard()))
        self.assertTrue(player.is_closed)

    def test_bug_ends_the_players_it_concerns(self) -> None:
        """Where rendering fails its players are ended, and the stream continues with the others."""
        publisher, player = self.publish(), self.player()
        other = self.player("k?only=audio", host="192.0.2.10")
        self.turn()
        player.protocol.role._place._rendering._writer = None
        publisher.say(*list(media(1, 3000))[2:])
        self.turn()
        self.assertEqual(1, len(self.flushLoggedErrors(AttributeError)))
        self.assertEqual(STOP, outline(player.heard())[-1])
        self.assertFalse(other.is_closed)
        self.assertFalse(publisher.is_closed)

    def test_detached_feed_ends_its_players(self) -> None:
        """Where the sink that feeds players is detached they are ended; who comes then is fed anew."""
        publisher, player = self.publish(), self.player()
        player.heard()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        (feed,) = (sink for sink in stream.fan_out.sinks if isinstance(sink, Feed))
        self.patch(feed, "frame_received", self.fail_for_a_test)
        publisher.say(message(9, picture(True), timestamp=3000))
        self.edge.wait(1.25)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(["control 1", STOP], outline(player.heard()))
        self.assertTrue(player.is_closed)
        self.assertIn("keyframe", outline(self.player().heard()))

    def fail_for_a_test(self, _frame: object) -> None:
        raise ZeroDivisionError

    def test_server_stops_with_words(self) -> None:
        """A server that closes its connections says so."""
        self.publish()
        player = self.player()
        player.heard()
        self.edge.factory.close_all()
        self.assertEqual(["control 1", STOP], outline(player.heard()))

    def test_silent_player_that_reads_stays(self) -> None:
        """A player that says nothing stays as long as it takes what is sent; one that takes nothing is closed."""
        publisher, player = self.publish(), self.player()
        for second in range(70):
            publisher.say(*list(media(1, 3000 + 1000 * second, with_audio=False))[1:])
            self.edge.wait(1)
            player.heard()
        self.assertFalse(player.is_closed)

    def test_slow_player_skips_and_is_closed(self) -> None:
        """A player that falls behind gets the newest keyframe next; when it does so too often it is closed."""
        publisher, player = self.publish(), self.player()
        player.heard()
        words = []
        for times in range(3):
            player.protocol.role._follower.pauseProducing()
            publisher.say(*list(media(6, 3000 + 6000 * times, with_audio=False))[1:])
            self.edge.wait(6)
            self.assertEqual([], [word for word in outline(player.heard()) if word == "picture"])
            player.protocol.role._follower.resumeProducing()
            words = outline(player.heard())
            if times < 2:
                self.assertEqual(["onMetaData", "video config"], words[:2])
                self.assertEqual(1, words.count("keyframe"))
        self.assertEqual(["control 1", STOP], words)
        self.assertTrue(player.is_closed)

    def test_stalled_player_is_closed(self) -> None:
        """A player that takes nothing for half a minute is closed."""
        publisher, player = self.publish(), self.player()
        player.heard()
        player.protocol.role._follower.pauseProducing()
        for second in range(33):
            publisher.say(*list(media(1, 3000 + 1000 * second, with_audio=False))[1:])
            self.edge.wait(1)
        self.assertTrue(player.is_closed)
        self.assertIsNone(self.edge.registry.find(StreamName("live", "x")))


class LimitTests(PlayerCase):
    policy = ConnectionLimits(max_connections=6, max_connections_per_ip=2, max_players=4, max_players_per_ip=3)

    def test_players_take_no_publishers_place(self) -> None:
        """Players are counted apart: where they are many, publishers from the same address come in all the same."""
        self.publish()
        players = [self.player(host="192.0.2.1") for _ in range(3)]
        self.assertEqual([START] * 3, [self.codes(player)[-1] for player in players])
        other = self.edge.peer("192.0.2.1").connect().publish("other?token=secret")
        self.assertIn("NetStream.Publish.Start", [code for _, code, _ in other.statuses()])
        self.assertFalse(other.is_closed)

    def test_too_many_players_are_refused(self) -> None:
        """One player more than there may be, of one address or in all, is refused, until another one has left."""
        self.publish()
        players = [self.player(host="192.0.2.3") for _ in range(3)]
        self.assertEqual([FAILED], self.codes(self.player(host="192.0.2.3")))
        players.append(self.player(host="192.0.2.4"))
        self.assertEqual([FAILED], self.codes(self.player(host="192.0.2.5")))
        for limit in ("max_players", "max_players_per_ip"):
            self.assertEqual(1, self.edge.metric("rtmp_connections_refused_total", limit=limit))
        players.pop().leave()
        self.assertIn(START, self.codes(self.player(host="192.0.2.5")))
        for player in players:
            player.say(command("closeStream", 0, number(1), msid=1))
        self.assertEqual({"192.0.2.5": 1}, dict(self.edge.factory._players))

    def test_refused_seat_is_no_player(self) -> None:
        """A player for whom the stream has no seat is not counted as one."""
        app = self.edge.apps["live"]
        app.limits = type(app.limits)(max_viewers_per_stream=1)
        self.publish()
        self.player()
        self.player(host="192.0.2.10")
        self.assertEqual({"192.0.2.9": 1}, dict(self.edge.factory._players))
