"""A server that is killed at any moment, and started again on what it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import StorageError
from rapidrtmp.hls.names import MEDIA_PLAYLIST, STATE, part_name, running_key
from rapidrtmp.hls.resume.state import StoredState
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import RecoveryContext
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import STARTED_AT_MS
from tests.hls.resume.restarts import STREAM, Moment, Players, Server, inits_by_discontinuity, named, stored_playlist
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
#: How long after the beginning of everything the server is started again.
AWAY_MS = 10_000


def publish(server: Server, seconds: float, *, gop: int = 30) -> None:
    """An encoder connects and sends for so long, in GOPs of so many frames, 30 a second."""
    source = FrameSource(VIDEO, AUDIO, gop=gop)
    server.publish(source.tracks, source.take(seconds))


def killed(seconds: float = 8, lag: int = 0) -> Server:
    """A server that was killed when an encoder had published for so long."""
    server = Server({}, STARTED_AT_MS, lag)
    publish(server, seconds)
    return server


def next_stored(moment: Moment) -> int:
    playlist = stored_playlist(moment.stored)
    return playlist.next_sequence if playlist else 0


def expects_end(version: bytes) -> bool:
    """Whether a playlist has an open segment, and promises the first part of the next one."""
    playlist = parse_media_playlist(version)
    hint = playlist.part_hint
    return playlist.open is not None and hint is not None and hint.uri == part_name(playlist.open.sequence + 1, 0)


@slow
class AnyMomentTests(SynchronousTestCase):
    """Whenever it is killed, players are only shown what goes with what they have been shown."""

    def check(self, moment: Moment) -> bool:
        """Kill it then, start it again, have another encoder come; whether the stream was resumed."""
        players = Players()
        players.follow(moment.versions, moment.bodies, stored=0)
        server = Server(moment.stored, STARTED_AT_MS + AWAY_MS)
        self.assertNothingIsLeftOver(server)
        if not server.resumed:
            self.assertIsNone(stored_playlist(moment.stored), "nothing was stored that players could resume")
            publish(server, 3, gop=45)
            self.assertAbove(server, players, is_known=f"{STREAM}/{STATE}" in moment.stored)
            return False
        publish(server, 4, gop=45)
        server.finish()
        players.follow(server.shelf.versions, server.shelf.bodies, stored=next_stored(moment))
        discontinuous = {
            segment.sequence
            for version in server.shelf.versions
            for segment in parse_media_playlist(version).segments
            if segment.discontinuity
        }
        self.assertEqual(1, len(discontinuous))
        self.assertEqual(0, server.metrics.total("playlist_violations_total"), "none was held back")
        return True

    def assertNothingIsLeftOver(self, server: Server) -> None:
        """The storage holds what its playlist names, and no more."""
        playlist = stored_playlist(server.writer.objects)
        wanted = named(playlist) if playlist else set()
        media = {key.rpartition("/")[2] for key in server.writer.objects if key.endswith((".m4s", ".mp4"))}
        self.assertEqual(wanted, media)

    def assertAbove(self, server: Server, players: Players, *, is_known: bool) -> None:
        """
        A presentation that begins anew has neither numbers nor names of the one before; discontinuity sequence numbers
        begin at 0 where nothing at all of that one is stored.
        """
        first = parse_media_playlist(server.shelf.versions[0])
        before = players.checker.previous
        if before is not None:
            self.assertGreater(first.sequence, before.next_sequence)
        self.assertEqual(int(is_known), first.discontinuity_sequence)
        self.assertEqual(set(), (players.bodies.keys() & server.shelf.bodies.keys()) - {"master.m3u8"})

    def check_all(self, seconds: float, lag: int) -> None:
        moments = killed(seconds, lag).moments
        resumed = [self.check(moment) for moment in moments]
        self.assertGreater(resumed.count(True), len(moments) // 2)

    def test_killed_with_prompt_storage(self) -> None:
        """With a storage that is up to date."""
        self.check_all(8, lag=0)

    def test_killed_with_slow_storage(self) -> None:
        """With a storage that is one segment behind."""
        self.check_all(12, lag=3)

    def test_very_slow_storage(self) -> None:
        """With a storage that is many segments behind."""
        self.check_all(24, lag=8)

    def test_before_the_end_of_a_segment(self) -> None:
        """When all parts of a segment are listed, and that it ends with them is not: the keyframe has not come."""
        moments = [moment for moment in killed(8).moments if moment.versions and expects_end(moment.versions[-1])]
        self.assertGreater(len(moments), 3)
        self.assertTrue(all(self.check(moment) for moment in moments[1:]))

    @given(st.data())
    def test_again_and_again(self, data: st.DataObject) -> None:
        """Killed several times in a row, whether or not an encoder had returned."""
        players = Players()
        stored: Mapping[str, bytes] = {}
        now_ms, next_sequence = STARTED_AT_MS, 0
        for life in range(data.draw(st.integers(2, 4))):
            lag = data.draw(st.integers(0, 4))
            server = Server(stored, now_ms, lag)
            if life and not server.resumed:
                return
            if not life or data.draw(st.booleans()):
                publish(server, data.draw(st.integers(1, 5)), gop=data.draw(st.sampled_from([15, 30, 45])))
            if not server.moments:
                continue
            moment = data.draw(st.sampled_from(server.moments))
            players.follow(moment.versions, moment.bodies, stored=next_sequence)
            stored, next_sequence = moment.stored, next_stored(moment)
            now_ms += data.draw(st.integers(0, 60_000))


class ResumeTests(SynchronousTestCase):
    """A stream that is resumed."""

    def test_window_is_served_at_once(self) -> None:
        """
        What is stored is served at once, byte for byte, and players of low-latency HLS are kept waiting. What is made
        when it is asked for is named again when there is a publisher.
        """
        server = killed()
        again = Server(server.writer.objects, STARTED_AT_MS + AWAY_MS)
        self.assertTrue(again.resumed)
        playlist = parse_media_playlist(again.shelf.versions[0])
        for name in named(playlist) | {"master.m3u8"}:
            found = again.shelf.find(name)
            assert found is not None
            self.assertEqual(server.shelf.bodies[name].partition(b"#EXT-X-I-FRAME")[0], found.body)
        assert playlist.part_hint is not None
        self.assertTrue(again.shelf.is_announced(playlist.part_hint.uri))

    def test_final_playlist_without_an_encoder(self) -> None:
        """If no encoder comes, the playlist becomes final, for players and in the storage."""
        again = Server(killed().writer.objects, STARTED_AT_MS + AWAY_MS)
        again.finish()
        self.assertTrue(parse_media_playlist(again.shelf.versions[-1]).ended)
        playlist = stored_playlist(again.writer.objects)
        assert playlist is not None
        self.assertTrue(playlist.ended)
        self.assertFalse(Server(again.writer.objects, STARTED_AT_MS).resumed)

    def test_dates_of_the_gaps(self) -> None:
        """Gaps last about as long as the server was away, none longer than the target duration."""
        stored = killed().writer.objects
        playlist = stored_playlist(stored)
        assert playlist is not None
        date_us = playlist.segments[-1].date_us
        assert date_us is not None
        end_ms = (date_us + playlist.segments[-1].duration_us) // 1000
        for away_ms, each_ms in ((-5_000, 100), (0, 100), (1_200, 400), (86_400_000, 1_000)):
            again = Server(stored, end_ms + away_ms, spec={"segment": "1s", "window": "9"})
            served = parse_media_playlist(again.shelf.versions[0])
            gaps = [segment.duration_us for segment in served.segments if segment.gap]
            self.assertEqual([each_ms * 1_000] * 3, gaps)

    def test_lost_discontinuity_keeps_its_number(self) -> None:
        """A discontinuity that was seen and never stored keeps its number: another one follows it."""
        second = Server(killed().writer.objects, STARTED_AT_MS + AWAY_MS)
        publish(second, 0.9)
        third = Server(second.moments[-1].stored, STARTED_AT_MS + 2 * AWAY_MS)
        publish(third, 3)
        seen: dict[int, set[str]] = {}
        for version in (*second.shelf.versions, *third.shelf.versions):
            for number, init in inits_by_discontinuity(parse_media_playlist(version)):
                seen.setdefault(number, set()).add(init)
        self.assertEqual([1, 1, 1], [len(inits) for inits in seen.values()])

    def test_lost_discontinuities_keep_their_numbers(self) -> None:
        """Several that were seen, and of which only the state tells, keep their numbers."""
        second = Server(killed().writer.objects, STARTED_AT_MS + AWAY_MS)
        stored = second.writer.objects
        for _ in range(3):
            publish(second, 0.4)
            assert second.sink is not None
            second.sink.discontinuity()
        key = f"{STREAM}/{STATE}"
        self.assertEqual(3, StoredState.parse(second.writer.objects[key]).discontinuity)
        third = Server({**stored, key: second.writer.objects[key]}, STARTED_AT_MS + 2 * AWAY_MS)
        publish(third, 3)
        before, after = (parse_media_playlist(server.shelf.versions[-1]) for server in (second, third))
        self.assertEqual([3, 4], [playlist.last_discontinuity for playlist in (before, after)])

    def test_small_numbers_begin_at_zero(self) -> None:
        """Discontinuity sequence numbers begin at 0, and continue over restarts and presentations by one at a time."""
        server = killed()
        seen = [server.shelf.versions[0], server.shelf.versions[-1]]
        for _ in range(2):
            server = Server(server.writer.objects, server.now_ms + AWAY_MS)
            publish(server, 6)
            seen.append(server.shelf.versions[-1])
        for _ in range(2):
            server.finish()
            server.sink = None
            publish(server, 6)
            seen.append(server.shelf.versions[-1])
        server.finish()
        server = Server(server.writer.objects, server.now_ms + AWAY_MS)
        publish(server, 6)
        seen.append(server.shelf.versions[-1])
        self.assertEqual([0, 0, 1, 2, 3, 4, 5], [parse_media_playlist(each).last_discontinuity for each in seen])

    def test_large_numbers_are_kept(self) -> None:
        """A presentation that an earlier version began at a large number keeps it; the next one begins at 0."""
        number = 436_424_132
        key, state = f"{STREAM}/{MEDIA_PLAYLIST}", f"{STREAM}/{STATE}"
        stored = killed().writer.objects
        stored[key] = stored[key].replace(b"DISCONTINUITY-SEQUENCE:0", b"DISCONTINUITY-SEQUENCE:%d" % number)
        stored[state] = StoredState.parse(stored[state]).render().replace(b', "discontinuity": 0', b"")
        for finished in (False, True):
            again = Server(stored, STARTED_AT_MS + AWAY_MS)
            publish(again, 4)
            numbers = {parse_media_playlist(version).last_discontinuity for version in again.shelf.versions}
            self.assertEqual({number, number + 1}, numbers)
            if finished:
                again.finish()
                again.sink = None
                publish(again, 4)
                self.assertEqual(0, parse_media_playlist(again.shelf.versions[-1]).last_discontinuity)
                again.finish()
            stored, number = again.writer.objects, number + 1

    def test_missing_segment_is_a_gap(self) -> None:
        """A segment that is listed and not there is a gap, as are all without their init segment."""
        stored = killed().writer.objects
        playlist = stored_playlist(stored)
        assert playlist is not None
        lost = playlist.segments[-2]
        assert lost.init is not None
        for name, expected in ((lost.uri, {lost.uri}), (lost.init.uri, {each.uri for each in playlist.segments})):
            rest = {key: data for key, data in stored.items() if not key.endswith(f"/{name}")}
            again = Server(rest, STARTED_AT_MS + AWAY_MS, spec={"segment": "1s", "window": "9"})
            served = parse_media_playlist(again.shelf.versions[0])
            gaps = {segment.uri for segment in served.segments if segment.gap}
            self.assertEqual(expected, gaps & {segment.uri for segment in playlist.segments})

    def test_no_parts_stay_none(self) -> None:
        """Where there were no parts there are none, whatever the encoder and the operator do."""
        first = Server({}, STARTED_AT_MS, spec={"segment": "1s", "window": "4", "part": "0"})
        publish(first, 8)
        again = Server(first.writer.objects, STARTED_AT_MS + AWAY_MS)
        publish(again, 6, gop=45)
        for version in again.shelf.versions:
            self.assertNotIn(b"PART", version)


class EndTests(SynchronousTestCase):
    """Streams that are not resumed."""

    def test_ended_playlist_stays_final(self) -> None:
        """A final playlist stays as it is with all it names, until another presentation takes its place."""
        server = killed()
        server.finish()
        again = Server(server.writer.objects, STARTED_AT_MS + AWAY_MS)
        self.assertFalse(again.resumed)
        old = stored_playlist(again.writer.objects)
        assert old is not None
        self.assertEqual(stored_playlist(server.writer.objects), old)
        kept = {key.rpartition("/")[2] for key in again.writer.objects}
        self.assertEqual(named(old) | {MEDIA_PLAYLIST, "master.m3u8", STATE}, kept)
        publish(again, 6)
        again.finish()
        left = {key.rpartition("/")[2] for key in again.writer.objects}
        self.assertEqual(set(), left & named(old))

    def test_second_presentation_removes_the_first(self) -> None:
        """In one process as well, a presentation removes what the one before it left."""
        server = killed()
        server.finish()
        old = named(parse_media_playlist(server.shelf.versions[-1]))
        server.sink = None
        server.now_ms += AWAY_MS
        publish(server, 6)
        server.finish()
        self.assertEqual(set(), {key.rpartition("/")[2] for key in server.writer.objects} & old)

    def test_clock_set_back(self) -> None:
        """Numbers continue rising when the host's clock was set back by a year."""
        server = killed()
        last = parse_media_playlist(server.shelf.versions[-1])
        server.finish()
        again = Server(server.writer.objects, STARTED_AT_MS - 365 * 86_400_000)
        publish(again, 5)
        self.assertGreater(parse_media_playlist(again.shelf.versions[0]).sequence, last.next_sequence)

    def test_unknown_state_ends_the_playlist(self) -> None:
        """Without a state that can be read no one knows what was promised: the playlist becomes final."""
        stored = killed().writer.objects
        key = f"{STREAM}/{STATE}"
        state = StoredState.parse(stored[key])
        other = state.render().replace(b'"targetDuration": 1', b'"targetDuration": 3')
        for damaged in (b"", state.render()[:-9], other):
            again = Server({**stored, key: damaged}, STARTED_AT_MS + AWAY_MS)
            self.assertFalse(again.resumed)
            playlist = stored_playlist(again.writer.objects)
            assert playlist is not None
            self.assertTrue(playlist.ended)
            self.assertFalse(playlist.problems)
        without = {name: data for name, data in stored.items() if name != key}
        self.assertFalse(Server(without, STARTED_AT_MS + AWAY_MS).resumed)

    def test_unreadable_playlist_is_left_alone(self) -> None:
        """What is not one of our playlists is left alone, and said."""
        stored = {**killed().writer.objects, f"{STREAM}/{MEDIA_PLAYLIST}": b"<html>"}
        with capturedLogs() as events:
            again = Server(stored, STARTED_AT_MS + AWAY_MS)
        self.assertFalse(again.resumed)
        self.assertEqual(stored, again.writer.objects)
        self.assertEqual(["error"], [event["log_level"].name for event in events])

    def test_objects_of_others_stay(self) -> None:
        """What others keep is not touched, wherever it lies."""
        others = [
            "live/segment_1.m4s",
            "live/test/thumbnail.jpg",
            "live/test/part_1.0.m4s",
            "live/test/deeper/segment_1.m4s",
            "live/.hidden/segment_1.m4s",
            "other/test/segment_1.m4s",
            "recordings/live/test/20260101T000000Z/init.mp4",
        ]
        orphans = ["live/test/segment_1.m4s", "live/gone/init_1.mp4", "live/gone/segment_1.m4s"]
        stored = killed().writer.objects | dict.fromkeys((*others, *orphans), b"...")
        again = Server(stored, STARTED_AT_MS + AWAY_MS)
        self.assertTrue(again.resumed)
        self.assertEqual(set(others), again.writer.objects.keys() & {*others, *orphans})


class OtherProcessTests(SynchronousTestCase):
    """Streams that other processes, which are alive, write into the same storage."""

    def test_running_elsewhere_is_not_resumed(self) -> None:
        """What another process has live is not resumed, nor made final, and no media of it is removed."""
        orphan = {f"{STREAM}/segment_1.m4s": b"just written"}
        stored = killed().writer.objects | orphan
        for extra in ({}, {running_key(*STREAM): None}):
            left = {key: data for key, data in stored.items() if key not in extra}
            again = Server(left, STARTED_AT_MS + AWAY_MS, held={STREAM})
            self.assertFalse(again.resumed)
            self.assertEqual(left, again.writer.objects)

    def test_begun_elsewhere_keeps_its_segments(self) -> None:
        """Of what another process has only begun no segment is removed, though no playlist names it yet."""
        stored = {f"{STREAM}/init_1.mp4": b"...", f"{STREAM}/segment_1.m4s": b"..."}
        self.assertEqual(stored, Server(stored, STARTED_AT_MS, held={STREAM}).writer.objects)
        self.assertEqual({}, Server(stored, STARTED_AT_MS).writer.objects)

    def test_cost_of_finished_streams(self) -> None:
        """Streams that are over, and in order, are not claimed, however many there are."""
        server = killed()
        server.finish()
        over = Server(server.writer.objects, STARTED_AT_MS).writer.objects
        self.assertEqual([], Server(over, STARTED_AT_MS + AWAY_MS, held={STREAM}).claimed)
        with_orphan = over | {f"{STREAM}/segment_1.m4s": b"..."}
        self.assertEqual([STREAM], Server(with_orphan, STARTED_AT_MS + AWAY_MS).claimed[:1])


class DamageTests(SynchronousTestCase):
    """Objects that say what no writer of ours says."""

    def test_damaged_state_is_set_aside(self) -> None:
        """A damaged state is named and set aside; its stream ends, and no number of any other is spoiled."""
        stored = killed().writer.objects
        state = stored[f"{STREAM}/{STATE}"]
        number = str(StoredState.parse(state).next_sequence).encode()
        for damaged in (b"[" * 3000, state.replace(number, b"1e999"), state.replace(number, b"9" * 30), b"null"):
            with capturedLogs() as logs:
                again = Server({**stored, f"{STREAM}/{STATE}": damaged}, STARTED_AT_MS + AWAY_MS)
            self.assertFalse(again.resumed)
            self.assertEqual(damaged, again.writer.objects[f"{STREAM}/{STATE}.damaged"])
            self.assertTrue(any(STATE in str(log.get("name")) for log in logs))
            self.assertLess(again.numbering.first(), 2**40)

    def test_damaged_playlist_spoils_no_number(self) -> None:
        """Nor by a playlist with a number out of bounds."""
        stored = killed().writer.objects
        playlist = stored[f"{STREAM}/{MEDIA_PLAYLIST}"]
        first = str(parse_media_playlist(playlist).segments[0].sequence).encode()
        damaged = playlist.replace(b"SEQUENCE:" + first, b"SEQUENCE:" + b"9" * 15)
        self.assertNotEqual(playlist, damaged)
        with capturedLogs():
            again = Server({**stored, f"{STREAM}/{MEDIA_PLAYLIST}": damaged}, STARTED_AT_MS + AWAY_MS)
        self.assertFalse(again.resumed)
        self.assertLess(again.numbering.first(), 2**40)


class FailingStorage:
    """A storage of which some calls fail, ``times`` in a row, or always, after ``first`` that succeed."""

    def __init__(
        self, storage: MemoryStorage, method: str, error: StorageError, times: int = 1_000, first: int = 0
    ) -> None:
        self._storage, self._method, self._error, self._times, self._first = storage, method, error, times, first

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        def call(*arguments: Any) -> Deferred[Any]:
            if name == self._method and self._first:
                self._first -= 1
            elif name == self._method and self._times:
                self._times -= 1
                return fail(self._error)
            result: Deferred[Any] = getattr(self._storage, name)(*arguments)
            return result

        return call


class StorageTests(SynchronousTestCase):
    """A storage that fails meanwhile."""

    def start(self, method: str, *, times: int = 1_000, retryable: bool = True) -> tuple[Mapping[str, bytes], Server]:
        """Start on what a killed server left, with a method of the storage that fails so often."""
        error = StorageError("on purpose", retryable=retryable)
        stored = killed().writer.objects
        again = Server(
            stored, STARTED_AT_MS + AWAY_MS, wrap=lambda storage: FailingStorage(storage, method, error, times)
        )
        return stored, again

    def test_passing_failure_is_retried(self) -> None:
        """A call that fails now and then is made again."""
        for method in ("get", "put"):
            self.assertTrue(self.start(method, times=2)[1].resumed)

    def test_lasting_failure_leaves_the_stream(self) -> None:
        """A stream that cannot be read, or not be written, is left as it is."""
        for method in ("get", "put"):
            for times, retryable in ((3, True), (1, False), (1_000, True)):
                stored, again = self.start(method, times=times, retryable=retryable)
                self.assertFalse(again.resumed)
                self.assertEqual(stored, again.writer.objects)

    def test_given_up_recovery_ends(self) -> None:
        """Given up in the middle, it just ends."""
        storage = MemoryStorage()
        for key, data in killed().writer.objects.items():
            storage.put(key, data, "", "")
        self.patch(storage, "get", lambda *_: Deferred())
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        context = RecoveryContext(
            STREAM.app, storage, lambda: 0, Logger(), nothing, nothing, nothing, lambda: False, nothing
        )
        recovering = HlsSinkFactory().recover(context)
        recovering.cancel()
        self.failureResultOf(recovering, CancelledError)

    def test_missing_list_fails_the_whole(self) -> None:
        """A storage that cannot say what it holds fails the whole."""
        self.assertRaises(StorageError, self.start, "list")

    def test_killed_while_starting(self) -> None:
        """A server that dies while it puts things in order leaves what the next one can put in order."""
        for lag in (0, 3):
            moment = killed(12, lag).moments[-1]
            for first in (0, 1):
                half = Server(
                    moment.stored,
                    STARTED_AT_MS + AWAY_MS,
                    wrap=lambda storage, first=first: FailingStorage(  # type: ignore[misc]
                        storage, "put", StorageError("dead", retryable=False), first=first
                    ),
                )
                self.assertFalse(half.resumed)
                again = Server(half.writer.objects, STARTED_AT_MS + 2 * AWAY_MS)
                self.assertTrue(again.resumed)
                publish(again, 4)
                again.finish()
                players = Players()
                players.follow(moment.versions, moment.bodies, stored=0)
                players.follow(again.shelf.versions, again.shelf.bodies, stored=next_stored(moment))
