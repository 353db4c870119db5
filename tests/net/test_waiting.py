"""From bytes to frames, and who may send them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger, capturedLogs, formatEvent, globalLogPublisher
from zope.interface import implementer

from rapidrtmp.auth.any_of import AnyOfAuthenticator
from rapidrtmp.errors import LeaseHeldError, StorageError
from rapidrtmp.interfaces import IAuthenticator, PublishRequest, Verdict
from rapidrtmp.live.stream import StreamState
from rapidrtmp.media import Frame, MediaKind
from rapidrtmp.names import StreamName
from rapidrtmp.rtmp.amf0 import write_values
from rapidrtmp.rtmp.via import VIA
from rapidrtmp.testing.sinks import STARTED_AT_MS, FrameCollector
from tests.rtmp.client import HANDSHAKE, command, connect, message, publish

from .edge import NAME, Edge, Peer, media
from .test_connection import EdgeCase

BAD_NAME, DENIED, START = "NetStream.Publish.BadName", "NetStream.Publish.Denied", "NetStream.Publish.Start"


@implementer(IAuthenticator)
class _Hung:
    """Never answers."""

    def authorize_publish(self, request: PublishRequest) -> Deferred[Verdict]:
        return Deferred()


class PublishTests(EdgeCase):
    def test_publish_gives_frames_of_both_tracks(self) -> None:
        """A publish, fed as the bytes an encoder sends, comes out as the frames of both tracks."""
        peer = self.edge.peer().connect()
        peer.heard()
        peer.publish()
        self.assertEqual([("status", START)], [status[:2] for status in peer.statuses()])
        peer.say(*media(3))
        peer.leave()
        collector = self.edge.collectors[0]
        self.assertEqual(["tracks_changed", "frame_received", "interrupted"], collector.call_names)
        kinds = [frame.track.kind for frame in collector.frames]
        self.assertEqual((75, 141), (kinds.count(MediaKind.VIDEO), kinds.count(MediaKind.AUDIO)))
        self.assertEqual(1, self.edge.metric("publishes_total", result="accepted"))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual((STARTED_AT_MS, STARTED_AT_MS + 2_000), (stream.utc_ms(0, 1), stream.utc_ms(2, 1)))

    def test_names_with_dots_are_published(self) -> None:
        """What may be a stream key elsewhere may be published: dots are a matter of names alone, wherever they are."""
        for number, key in enumerate(("a..b", "a.", "-", "~x", "k" * 128)):
            peer = self.edge.peer(f"192.0.2.{number}").connect()
            peer.heard()
            self.assertEqual([("status", START)], [status[:2] for status in peer.publish(f"{key}?token=s").statuses()])
            self.assertIsNotNone(self.edge.registry.find(StreamName("live", key)))

    def test_one_write_loses_nothing(self) -> None:
        """An encoder that sends all at once, without waiting for answers, loses nothing, and nothing is reordered."""
        peer = self.edge.peer()
        peer.say(HANDSHAKE + connect() + command("createStream", 4) + publish() + b"".join(media(3)))
        peer.leave()
        self.assertEqual(216, len(self.edge.collectors[0].frames))

    def test_metadata_is_kept_for_display(self) -> None:
        """What the encoder says of itself is kept to be shown."""
        peer = self.edge.publisher()
        values = b"\x02\x00\x0aonMetaData\x03\x00\x07encoder\x02\x00\x04test\x00\x00\x09"
        peer.say(message(18, values))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual({"encoder": "test"}, stream.metadata)

    def test_request_has_name_token_and_peer(self) -> None:
        """The authenticator gets the name, the token and the peer; the token's usual names all serve."""
        for number, query in enumerate(("token=s", "key=s", "auth=s", "pass=s", "token=&key=s", "other=x")):
            peer = self.edge.peer(f"192.0.2.{number}").connect().publish(f"k{number}?{query}")
            request = self.edge.authenticator.requests[-1]
            self.assertEqual("" if number == 5 else "s", request.token)
            self.assertEqual((f"live/k{number}", f"192.0.2.{number}"), (str(request.stream), request.peer))
            self.assertFalse(peer.is_closed)

    def test_instances_name_their_application(self) -> None:
        """An instance names its application, unless an alias says otherwise; a default instance is none."""
        spellings = (("live/0", "a"), ("live/room7", "b"), ("live/_definst_", "c"), ("old/studio", "d"), ("live/e", ""))
        for number, (app, name) in enumerate(spellings):
            self.edge.peer(f"192.0.2.{number}").connect(app).publish(f"{name}?token=x")
        names = [str(request.stream) for request in self.edge.authenticator.requests]
        self.assertEqual(["live/a", "live/b", "live/c", "live/d", "live/e"], names)

    def test_key_alone_with_its_token(self) -> None:
        """A URL of one segment and a query is the key, with its token."""
        self.edge.peer().connect("a?token=x").publish("")
        self.assertEqual(["live/a"], [str(stream.name) for stream in self.edge.registry])

    def test_end_interrupts_the_stream(self) -> None:
        """The encoder's own end interrupts the stream, which ends when no publisher returns in time."""
        peer = self.edge.publisher()
        peer.say(*media(1))
        peer.say(command("FCUnpublish", 6), command("deleteStream", 7))
        peer.leave()
        self.assertEqual("interrupted", self.edge.collectors[0].call_names[-1])
        self.edge.wait(7)
        self.assertEqual("finish", self.edge.collectors[0].call_names[-1])

    def test_two_publishes_on_one_connection(self) -> None:
        """One connection may publish again, the same name or another."""
        peer = self.edge.publisher()
        peer.say(*media(2))
        peer.say(command("closeStream", 6, msid=1), publish("k?token=x"))
        peer.say(*media(2, 10_000))
        collector = self.edge.collectors[0]
        expected = [
            "tracks_changed",
            "frame_received",
            "interrupted",
            "discontinuity",
            "tracks_changed",
            "frame_received",
        ]
        self.assertEqual(expected, collector.call_names)
        peer.say(command("closeStream", 8, msid=1), publish("other?token=x"))
        self.assertEqual({"live/k", "live/other"}, {str(stream.name) for stream in self.edge.registry})

    def test_return_continues_the_stream(self) -> None:
        """A publisher that returns in time continues its stream, behind one discontinuity and with a new date."""
        peer = self.edge.publisher()
        peer.say(*media(2))
        peer.leave()
        self.edge.wait(3)
        again = self.edge.publisher()
        again.say(*media(2, 777_000))
        again.leave()
        collector = self.edge.collectors[0]
        self.assertEqual(1, collector.call_names.count("discontinuity"))
        video = [frame for frame in collector.frames if frame.track.kind is MediaKind.VIDEO]
        self.assertTrue(all(one.dts < other.dts for one, other in pairwise(video)))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual(STARTED_AT_MS + 3_000, stream.utc_ms(video[50].pts, 90_000))

    def test_problems_are_counted_each_time(self) -> None:
        """What is wrong with the media is counted each time and said once."""
        said: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_format", "").endswith("(further ones are counted only)"):
                said.append(event["kind"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        peer = self.edge.publisher()
        for _ in range(5):
            peer.say(message(9, b"\x27\x01\x00\x00\x00" + b"\x00\x00\x00\x02\x41\x9a"))
        self.assertEqual(["no_config"], said)
        self.assertEqual(5, self.edge.metric("media_problems_total", kind="no_config"))

    def test_ignored_messages_are_counted(self) -> None:
        """Unknown commands and messages are counted."""
        peer = self.edge.peer().connect()
        peer.say(command("selfDestruct", 9), message(99, b"?"))
        for what in ("command", "message"):
            self.assertEqual(1, self.edge.metric("rtmp_ignored_total", what=what), what)


class RefusalTests(EdgeCase):
    def test_names_with_endings_of_urls(self) -> None:
        """A name that ends as the URLs of playlists and of FLV do cannot be published."""
        for key in ("k.flv", "k.FLV", "k.m3u8"):
            peer = self.edge.peer().connect()
            peer.heard()
            ((_, code, description),) = peer.publish(f"{key}?token=secret").statuses()
            self.assertEqual((BAD_NAME, "the stream key may not end in .flv or .m3u8"), (code, description))

    def assertRefused(self, peer: Peer, code: str, words: str) -> None:
        """The encoder was given the reason, and then closed; the name is not taken."""
        ((level, said, description),) = peer.statuses()
        self.assertEqual(("error", code), (level, said))
        self.assertIn(words, description)
        self.assertTrue(peer.is_closed)
        self.assertEqual(1, self.edge.metric("publishes_total", result="refused"))

    def refused(self, name: str = "k?token=secret", app: str = "live") -> Peer:
        peer = self.edge.peer().connect(app)
        peer.heard()
        return peer.publish(name)

    def test_bad_name_is_refused_unasked(self) -> None:
        """A name that no stream can have is refused without asking."""
        self.assertRefused(self.refused("a b?token=x"), BAD_NAME, "stream key")
        self.assertEqual([], self.edge.authenticator.requests)

    def test_unknown_application_is_refused_early(self) -> None:
        """An application that does not exist is refused when the encoder connects."""
        for app in ("other", "other/k", "other/k?token=x", "live2"):
            peer = self.edge.peer().connect(app)
            ((name, transaction, _, information),) = peer.commands()
            self.assertEqual(("_error", 1.0), (name, transaction))
            self.assertEqual("NetConnection.Connect.InvalidApp", information["code"])
            self.assertIn(
                "there is no application 'other'" if "2" not in app else "'live2'", information["description"]
            )
            self.assertTrue(peer.is_closed)
        self.assertEqual(4, self.edge.metric("publishes_total", result="refused"))
        self.assertEqual([], self.edge.authenticator.requests)

    def test_unknown_application_or_key(self) -> None:
        """One that may be the key of a URL of one segment is refused when the encoder publishes."""
        self.assertRefused(self.refused("k", app="other?token=x"), BAD_NAME, "no application 'other'")

    def test_denial_has_its_reason(self) -> None:
        """The authenticator's reason reaches the encoder."""
        self.edge.authenticator.answer = Verdict(False, "this token has expired")
        self.assertRefused(self.refused(), DENIED, "this token has expired")
        self.assertIsNone(self.edge.registry.find(NAME))

    def test_authenticator_that_raises_refuses(self) -> None:
        """An authenticator that raises refuses, in neutral words."""
        self.edge.authenticator.answer = StorageError("the password is hunter2")
        peer = self.refused()
        self.assertNotIn(b"hunter2", peer.transport.value())
        self.assertRefused(peer, DENIED, "could not be checked")

    def test_failure_is_named(self) -> None:
        """The log names the authenticator that failed, and with what."""
        self.edge.authenticator.answer = RuntimeError("no route to the directory")
        with capturedLogs() as events:
            self.refused()
        (line,) = [formatEvent(event) for event in events if "authenticator" in event["log_format"]]
        self.assertEqual(
            "live/k: the authenticator tests.net.edge.ScriptedAuthenticator failed: "
            "RuntimeError: no route to the directory",
            line,
        )

    def test_silence_is_named(self) -> None:
        """So it does with one that does not answer, also where several are asked in turn."""
        line = ""
        for asked in (
            Deferred(),
            AnyOfAuthenticator([_Hung()], Logger()).authorize_publish(PublishRequest(NAME, "", {}, "192.0.2.7")),
        ):
            self.edge.authenticator.answer = asked
            with capturedLogs() as events:
                self.refused()
                self.edge.clock.advance(10)
            (line,) = [str(formatEvent(event)) for event in events if "authenticator" in event["log_format"]]
            self.assertIn("ScriptedAuthenticator failed: TimeoutError: no answer within 5 s", line)
        self.assertTrue(line.endswith(f"from {__name__}._Hung"), line)

    def test_authenticator_that_fails_refuses(self) -> None:
        """One whose Deferred fails likewise."""
        self.edge.authenticator.answer = answer = Deferred()
        peer = self.refused()
        self.assertEqual([], peer.statuses())
        answer.errback(ZeroDivisionError("on purpose"))
        self.assertRefused(peer, DENIED, "could not be checked")

    def test_authenticator_talks_nonsense(self) -> None:
        """One that answers anything but a verdict likewise: nothing is consent but consent."""
        self.edge.authenticator.answer = True
        self.assertRefused(self.refused(), DENIED, "could not be checked")

    def test_authenticator_is_slow(self) -> None:
        """One that never answers likewise, when its time is up; what it says after that is too late."""
        self.edge.authenticator.answer = answer = Deferred()
        peer = self.refused()
        self.edge.wait(4.5)
        self.assertFalse(peer.is_closed)
        self.edge.wait(1)
        self.assertRefused(peer, DENIED, "could not be checked")
        answer.callback(Verdict(True))
        self.assertIsNone(self.edge.registry.find(NAME))

    def test_taken_name_is_refused(self) -> None:
        """A name that another connection publishes is refused, and the first continues."""
        first = self.edge.publisher()
        peer = self.refused()
        self.assertRefused(peer, BAD_NAME, "another connection")
        first.say(*media(3))
        self.assertTrue(self.edge.collectors[0].frames)

    def test_name_taken_by_another_server(self) -> None:
        """A name that another server on the same storage publishes is refused, in words that name no machine."""
        self.edge.lease = lambda: fail(LeaseHeldError("process 7 on elsewhere writes live/k into this storage"))
        peer = self.refused()
        self.assertRefused(peer, BAD_NAME, "another server publishes this stream")
        self.assertIsNone(self.edge.registry.find(NAME))

    def test_full_server_refuses_with_number(self) -> None:
        """A stream more than the server takes is refused with the number."""
        self.edge.registry.max_streams = 1
        self.edge.publisher()
        self.assertRefused(self.refused("other?token=x"), DENIED, "1 streams")

    def test_log_names_the_stream(self) -> None:
        """Every refusal's line names the stream, of a name that is none as much of it as can be no secret."""
        lines: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_format", "").startswith("publish of"):
                lines.append(event["stream"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.refused("a b?token=x")
        self.refused("k&token=secret")
        self.edge.authenticator.answer = Verdict(False, "this token has expired")
        self.refused("denied")
        self.edge.authenticator.answer = StorageError("on purpose")
        self.refused("undecided")
        self.assertEqual(["live/a…", "live/k…", "live/denied", "live/undecided"], lines)

    def test_no_secret_is_told(self) -> None:
        """The token is in no log, refused or not."""
        texts: list[str] = []

        def observe(event: Any) -> None:
            texts.append(repr(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.edge.publisher()
        self.edge.authenticator.answer = ZeroDivisionError("on purpose")
        self.refused("k?token=s3cr3t&token=s3cr3t")
        self.assertTrue(texts)
        self.assertFalse([text for text in texts if "s3cr3t" in text or "secret" in text])


class SlowAuthenticatorTests(EdgeCase):
    def setUp(self) -> None:
        super().setUp()
        self.answer: Deferred[Verdict] = Deferred()
        self.edge.authenticator.answer = self.answer

    def test_media_before_the_answer(self) -> None:
        """An encoder that does not wait for the answer loses nothing; others are served meanwhile."""
        peer = self.edge.peer().connect().publish()
        peer.say(*media(1))
        self.edge.authenticator.answer = Verdict(True, credential="d")
        other = self.edge.peer("192.0.2.2").connect().publish("other?token=x")
        other.say(*media(1))
        self.assertEqual(["live/other"], [str(stream.name) for stream in self.edge.registry])
        peer.heard()
        self.answer.callback(Verdict(True))
        self.assertEqual([START], [status[1] for status in peer.statuses()])
        peer.leave()
        self.assertEqual(72, len(self.edge.collectors[1].frames))

    def test_leaving_peer_cancels_the_question(self) -> None:
        """When the encoder leaves, the authenticator's work is called off; how that ends does not matter."""
        peer = self.edge.peer().connect().publish()
        peer.leave()
        self.assertTrue(self.answer.called)
        odd: Deferred[Verdict] = Deferred(lambda deferred: deferred.errback(ZeroDivisionError("while cancelled")))
        self.edge.authenticator.answer = odd
        self.edge.peer().connect().publish().leave()
        self.assertEqual([], self.flushLoggedErrors())
        self.assertIsNone(self.edge.registry.find(NAME))

    def test_storage_is_slow(self) -> None:
        """While the storage is asked for a lease, the encoder waits, and nothing it has sent is lost."""
        self.edge.authenticator.answer = Verdict(True, credential="c")
        lease: Deferred[None] = Deferred()
        self.edge.lease = lambda: lease
        peer = self.edge.peer().connect().publish()
        peer.say(*media(3))
        self.assertEqual([], self.edge.collectors)
        lease.callback(None)
        self.assertEqual(216, self.edge.registry.totals().frames)
        peer.leave()

    def test_peer_leaves_before_the_lease(self) -> None:
        """When the encoder leaves while the storage is asked, that is called off, and the name stays free."""
        self.edge.authenticator.answer = Verdict(True, credential="c")
        lease: Deferred[None] = Deferred()
        self.edge.lease = lambda: lease
        self.edge.peer().connect().publish().leave()
        self.assertTrue(lease.called)
        self.assertIsNone(self.edge.registry.find(NAME))

    def test_request_taken_back(self) -> None:
        """An encoder may take its request back and make another; only that one is answered."""
        peer = self.edge.peer().connect().publish()
        self.edge.authenticator.answer = Verdict(True, credential="c")
        peer.say(command("closeStream", 6, msid=1), publish("second?token=x"))
        self.assertEqual(["live/second"], [str(stream.name) for stream in self.edge.registry])
        self.assertFalse(peer.is_closed)


class TakeoverTests(EdgeCase):
    def test_takeover_of_a_silent_connection(self) -> None:
        """A silent connection gives way to one with the same credential, learns why, and costs one discontinuity."""
        old = self.edge.publisher()
        old.say(*media(2))
        self.edge.wait(2)
        new = self.edge.peer("192.0.2.2").connect().publish()
        self.assertIn(("error", DENIED), [status[:2] for status in old.statuses()])
        self.assertTrue(old.is_closed)
        new.say(*media(2, 5_000))
        old.say(*media(1, 9_000))
        old.leave()
        self.edge.wait(10)
        collector = self.edge.collectors[0]
        self.assertEqual(1, len(self.edge.collectors))
        self.assertEqual(1, collector.call_names.count("discontinuity"))
        self.assertEqual(1, collector.call_names.count("interrupted"))
        self.assertEqual(100, sum(frame.track.kind is MediaKind.VIDEO for frame in collector.frames))

    def test_alive_publisher_does_not_give_way(self) -> None:
        """One that was heard of lately does not give way."""
        old = self.edge.publisher()
        old.say(*media(2))
        self.edge.wait(0.5)
        new = self.edge.peer("192.0.2.2").connect().publish()
        self.assertEqual((False, True), (old.is_closed, new.is_closed))


class VerdictTests(EdgeCase):
    def test_verdict_gives_another_name(self) -> None:
        """An authenticator may give a stream another name than was asked for; that alone is known of it."""
        self.edge.authenticator.answer = Verdict(True, credential="c", public_name="public")
        with capturedLogs() as events:
            peer = self.edge.peer().connect().publish("thesecretkey")
        self.assertEqual("NetStream.Publish.Start", peer.statuses()[-1][1])
        self.assertEqual(["live/public"], [str(stream.name) for stream in self.edge.registry])
        self.assertFalse(any("thesecretkey" in str(event) for event in events))

    def test_undecided_is_no_failed_attempt(self) -> None:
        """A refusal for now is no failed attempt: the one to be asked was away."""
        self.edge.authenticator.answer = Verdict(False, "try again later", is_undecided=True)
        for _ in range(30):
            peer = self.edge.peer().connect().publish()
            self.assertIn("try again later", peer.statuses()[-1][2])

    def test_verdict_limits_the_bit_rate(self) -> None:
        """A verdict may limit the bit rate below what the server allows."""
        self.edge.authenticator.answer = Verdict(True, credential="c", max_bitrate=1_000)
        peer = self.edge.publisher()
        for number in range(60):
            peer.say(message(9, bytes(400), timestamp=number * 250))
            self.edge.wait(0.25)
        self.assertTrue(peer.is_closed)

    def test_what_clients_say(self) -> None:
        """An authenticator is given what the client has said of itself, and a name for the connection."""
        for _ in range(2):
            self.edge.peer().connect().publish("x?token=t").leave()
        first, second = self.edge.authenticator.requests
        self.assertEqual("rtmp://example.org/live", first.said["tcUrl"])
        self.assertNotEqual(first.client_id, second.client_id)


class EndTests(EdgeCase):
    def test_expiry_disconnects_the_publisher(self) -> None:
        """When its permission expires the publisher is notified and disconnected."""
        self.edge.authenticator.answer = Verdict(True, expires_ms=STARTED_AT_MS + 5_000)
        peer = self.edge.publisher()
        self.edge.wait(4.5)
        self.assertFalse(peer.is_closed)
        self.edge.wait(1)
        self.assertIn("expired", peer.statuses()[-1][2])
        self.assertTrue(peer.is_closed)

    def test_stop_disconnects_the_publisher(self) -> None:
        """A stream that is ended disconnects its publisher, which is given the reason."""
        peer = self.edge.publisher()
        peer.say(*media(1))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.successResultOf(self.edge.registry.end(stream, "stopped by the operator"))
        self.assertEqual([("error", DENIED, "stopped by the operator")], peer.statuses())
        self.assertTrue(peer.is_closed)
        peer.leave()
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual("finish", self.edge.collectors[0].call_names[-1])

    def test_failing_sink_is_taken_off(self) -> None:
        """A sink that raises is taken off; the publisher and the other sink never notice."""

        class Failing(FrameCollector):
            def frame_received(self, frame: Frame) -> None:
                raise ZeroDivisionError("on purpose")

        self.edge.extra_sinks.append(Failing)
        peer = self.edge.publisher()
        peer.say(*media(2))
        self.assertFalse(peer.is_closed)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(["extra0"], self.edge.failed)
        peer.leave()
        self.assertEqual(144, len(self.edge.collectors[0].frames))

    def test_sink_that_ends_the_stream(self) -> None:
        """A sink may end the stream from within a frame: nothing comes after the end, and the publisher is gone."""
        edge: Edge = self.edge

        class Ending(FrameCollector):
            def frame_received(self, frame: Frame) -> None:
                super().frame_received(frame)
                stream = edge.registry.find(NAME)
                assert stream is not None
                if len(self.frames) == 10:
                    edge.registry.end(stream, "enough")

        self.edge.extra_sinks.append(Ending)
        peer = self.edge.publisher()
        peer.say(b"".join(media(2)))
        self.assertTrue(peer.is_closed)
        told = self.edge.collectors[0].call_names
        self.assertEqual(1, told.count("finish"))
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertIs(StreamState.ENDED, stream.state)
        self.assertEqual([], self.flushLoggedErrors())


class LoopTests(EdgeCase):
    def connected(self, via: str) -> Peer:
        """Another server that has connected, with a stream that came through those."""
        peer = self.edge.peer()
        properties = write_values({"app": "live", "tcUrl": "rtmp://example.org/live", VIA: via})
        peer.say(HANDSHAKE + command("connect", 1, properties=properties), command("createStream", 4))
        return peer

    def test_stream_that_was_here_is_refused(self) -> None:
        """A server with a stream that has come through this one is refused when it connects, in those words."""
        peer = self.connected("other,server,third")
        answer = next(each for each in peer.commands() if each[0] == "_error")
        self.assertIn("relay loop", answer[3]["description"])
        self.assertTrue(peer.is_closed)

    def test_way_of_a_stream_is_remembered(self) -> None:
        """A stream knows the servers that it has come through, for those behind this one."""
        self.connected("other,third").publish()
        stream = self.edge.registry.find(NAME)
        assert stream is not None
        self.assertEqual(("other", "third"), stream.via)

    def test_metadata_tells_of_a_loop(self) -> None:
        """Where servers in between hand on nothing but metadata, a loop is found by that."""
        peer = self.edge.publisher()
        peer.say(message(18, write_values("@setDataFrame", "onMetaData", {VIA: "other,server"})))
        self.assertIn("relay loop", peer.statuses()[-1][2])
        self.assertTrue(peer.is_closed)
