"""What players of one rendering are sent, from their beginning on, and when."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

from rapidrtmp.codec.flv_writing import AUDIO_TAG, DATA_TAG, VIDEO_TAG
from rapidrtmp.media import Frame
from rapidrtmp.play.follower import SocketFollower
from rapidrtmp.play.formats import Format, HttpChunks, RtmpChunks, Tags
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.testing.frames import FrameSource, audio_frames, make_audio_track, make_video_track, video_frames
from tests.play.stage import FeedCase, Tag

VIDEO, AUDIO = make_video_track(), make_audio_track()
RATE = Fraction(25)


def pictures(seconds: float, *, gop: int = 25, first: int = 0) -> list[Frame]:
    """Video of 25 pictures a second."""
    return video_frames(VIDEO, seconds, frame_rate=RATE, gop=gop, first=first)


def is_keyframe(tag: Tag) -> bool:
    return tag[0] == VIDEO_TAG and tag[2][:2] == b"\x17\x01"


def media_of(tags: list[Tag]) -> list[Tag]:
    """Those that hold frames."""
    return [tag for tag in tags if tag[0] != DATA_TAG and tag[2][1]]


class BeginningTests(FeedCase):
    def sent_first(self, format: Format | None = None) -> list[Tag]:
        return self.tags(self.join(format))

    def test_audio_before_the_keyframe_is_left_out(self) -> None:
        """Audio that comes behind the keyframe, and belongs before it, is not sent to a player that begins there."""
        self.begin(VIDEO, AUDIO)
        watching = self.join()
        old, late = pictures(1), audio_frames(AUDIO, 1)
        self.send([*old, *late[:40]])
        begun = self.tags(watching)
        following = pictures(1, first=25)
        self.send([following[0], *late[40:46], *following[1:3]])
        tags = self.sent_first()
        self.assertEqual([1000], [tag[1] for tag in tags if is_keyframe(tag)])
        self.assertGreaterEqual(min(tag[1] for tag in media_of(tags)), 1000)
        self.send([late[46], *audio_frames(AUDIO, 0.2, start=1024 * 47), *following[3:]])
        self.assertGreaterEqual(min(tag[1] for tag in media_of(self.tags(self.join()))), 1000)
        sounds = [tag[1] for tag in [*begun, *self.tags(watching)] if tag[0] == AUDIO_TAG and tag[2][1]]
        self.assertEqual(sorted(set(sounds)), sounds)
        self.assertEqual(47 + 9, len(sounds))

    def test_late_audio_is_left_out_of_the_flow(self) -> None:
        """A player that has begun at a keyframe is not sent the audio from before that later, either."""
        self.begin(VIDEO, AUDIO)
        self.send(pictures(1))
        playing = self.join()
        self.tags(playing)
        first, *others = pictures(1, first=25)
        self.send([first])
        joining = self.join()
        self.tags(joining)
        self.send(audio_frames(AUDIO, 1)[40:47])
        self.send(others)
        self.assertEqual([VIDEO_TAG] * 24, [tag[0] for tag in media_of(self.tags(joining))])
        self.assertEqual(7, sum(tag[0] == AUDIO_TAG for tag in media_of(self.tags(playing))))

    def test_begins_at_any_moment(self) -> None:
        """Whenever a player joins, what comes first is a configuration, then a keyframe and all since, in order."""
        source = FrameSource(VIDEO, AUDIO, frame_rate=RATE, gop=25, b_frames=2)
        self.begin(*source.tracks)
        frames, players = source.take(3), []
        for frame in frames:
            self.send([frame])
            players.append((player := self.join(), self.tags(player)))
        whole = [frame.dts // 90 for frame in frames if frame.track is VIDEO]
        for player, begun in players:
            tags = begun + self.tags(player)
            shown = [tag for tag in tags if tag[0] == VIDEO_TAG]
            self.assertEqual(0, shown[0][2][1])
            self.assertTrue(is_keyframe(shown[1]))
            times = [tag[1] for tag in shown[1:]]
            self.assertEqual(whole[whole.index(times[0]) :], times)


class PastTests(FeedCase):
    def first_ages(self, format: Format | None, gop: int) -> list[int]:
        """How old the keyframe is that a player begins with, in milliseconds, at many moments."""
        self.setUp()
        self.begin(VIDEO)
        self.join(format)
        staying, ages = self.rendering(format), []
        for number, frame in enumerate(pictures(8, gop=gop)):
            self.send([frame])
            start = SocketFollower(_Unread(), self.clock, self.policy, lambda _: None)
            start.follow(staying)
            self.turn(0)
            if number >= 100:
                began = staying.ring.timestamp_of(start._start)
                ages.append(number * 40 - began)
            self.feed.leave(staying, start)
        return ages

    def test_players_of_rtmp_get_some_past(self) -> None:
        """A player of RTMP begins with the newest keyframe that is at least 1.2 s old, whatever the GOPs' length is."""
        for gop in (5, 25, 50):
            ages = self.first_ages(RtmpChunks(1), gop)
            self.assertGreaterEqual(min(ages), 1_200, gop)
            self.assertLess(max(ages), 1_200 + 40 * gop, gop)

    def test_others_get_the_newest_gop(self) -> None:
        """A player of FLV begins with the newest keyframe."""
        self.assertLess(max(self.first_ages(Tags(), 25)), 1_000)


class TwoGopsTests(FeedCase):
    policy = PlayPolicy(gops=2)

    def test_player_begins_one_gop_earlier(self) -> None:
        """With two GOPs a player begins with the one before the newest."""
        self.begin(VIDEO)
        self.join()
        self.send(pictures(4))
        keyframes = [tag[1] for tag in self.tags(self.join()) if is_keyframe(tag)]
        self.assertEqual([2000, 3000], keyframes)

    def test_slow_player_skips_to_the_newest(self) -> None:
        """A player that has fallen behind is sent the newest GOP alone."""
        self.begin(VIDEO)
        self.join()
        self.send(pictures(2))
        player = self.join()
        self.tags(player)
        self.send(pictures(10, first=50))
        self.assertEqual([11_000], [tag[1] for tag in self.tags(player) if is_keyframe(tag)])


class NoGopTests(FeedCase):
    policy = PlayPolicy(gops=0)

    def test_player_waits_for_the_next_keyframe(self) -> None:
        """Without old media a player begins with the next keyframe."""
        self.begin(VIDEO)
        self.join()
        self.send(pictures(1.5))
        player = self.join()
        self.assertEqual([], self.tags(player))
        self.send(pictures(1, first=38))
        self.assertEqual([2000], [tag[1] for tag in self.tags(player) if is_keyframe(tag)])


class GatheringTests(FeedCase):
    def sizes(self, rate: int) -> list[int]:
        """How many pictures are sent at a time, where they come just when they are due."""
        frames = video_frames(VIDEO, 4, frame_rate=Fraction(rate), gop=rate)
        self.begin(VIDEO)
        player, sizes = self.join(), []
        for frame in frames:
            until_s = frame.dts / VIDEO.timescale
            self.clock.advance(max(until_s - self.clock.seconds(), 0))
            sizes.append(len(media_of(self.tags(player))))
            self.feed.frame_received(frame)
            self.clock.advance(0)
            sizes.append(len(media_of(self.tags(player))))
        return [size for size in sizes if size]

    def test_pictures_go_out_as_they_come(self) -> None:
        """As long as players are few each picture is sent at once."""
        self.assertEqual([1] * 120, self.sizes(30))

    def test_pictures_for_a_crowd_are_gathered(self) -> None:
        """A crowd is sent as many pictures as 70 ms hold, as soon as the last of them is there."""
        self.is_crowded = True
        for rate, together in ((10, 1), (24, 2), (25, 2), (30, 3), (60, 5)):
            self.setUp()
            self.is_crowded = True
            sizes = self.sizes(rate)
            self.assertEqual({together}, set(sizes[1:-1]), rate)

    def test_late_picture_is_not_waited_for(self) -> None:
        """Where the next picture is late, what is gathered goes without it."""
        self.is_crowded = True
        self.begin(VIDEO)
        player = self.join()
        self.send(pictures(0.08))
        self.tags(player)
        self.feed.frame_received(pictures(0.04, first=2)[0])
        self.clock.advance(0.1)
        self.assertEqual([], self.tags(player))
        self.clock.advance(0.01)
        self.assertEqual(1, len(self.tags(player)))


class WrappingTests(FeedCase):
    #: Where the three bytes, the sign and the four bytes of a timestamp end, in milliseconds.
    edges: ClassVar = (0xFFFFFF, 1 << 31, 1 << 32)

    def test_time_crosses_the_edges(self) -> None:
        """Players who play, and those who join, are sent times that rise modulo 2**32, over every edge."""
        for edge in self.edges:
            self.setUp()
            start = (edge - 2_000) * 90
            frames = video_frames(VIDEO, 4, frame_rate=RATE, gop=25, start=start)
            self.begin(VIDEO)
            playing = self.join()
            times = []
            for at in range(0, len(frames), 10):
                self.send(frames[at : at + 10])
                joining = media_of(self.tags(self.join()))
                expected = [frame for frame in frames[: at + 10] if frame.dts >= _gop_of(frames, at + 9)]
                self.assertEqual([frame.dts // 90 % (1 << 32) for frame in expected], [tag[1] for tag in joining])
                times += [tag[1] for tag in media_of(self.tags(playing))]
            self.assertEqual([frame.dts // 90 % (1 << 32) for frame in frames], times)

    def test_old_and_new_are_told_apart(self) -> None:
        """A player that is slow when times wrap skips as at any other time."""
        start = ((1 << 32) - 6_000) * 90
        frames = video_frames(VIDEO, 12, frame_rate=RATE, gop=25, start=start)
        self.begin(VIDEO)
        player = self.join()
        self.send(frames[:25])
        self.tags(player)
        self.send(frames[25:])
        (keyframe,) = (tag for tag in self.tags(player) if is_keyframe(tag))
        self.assertEqual((1, 5_000), (player.skips, keyframe[1]))


def _gop_of(frames: list[Frame], at: int) -> int:
    """Where the GOP of a frame begins."""
    return max(frame.dts for frame in frames[: at + 1] if frame.keyframe)


class FormatTests(FeedCase):
    def test_one_rendering_for_a_format(self) -> None:
        """Formats that are equal share what is rendered, others do not."""
        self.begin(VIDEO)
        self.assertIs(self.rendering(Tags()), self.rendering(Tags()))
        self.assertIsNot(self.rendering(Tags()), self.rendering(HttpChunks()))
        self.assertIsNot(self.rendering(RtmpChunks(1)), self.rendering(RtmpChunks(2)))


class WordsTests(FeedCase):
    policy = PlayPolicy(most_skips=1)

    def test_rate_is_in_the_farewell(self) -> None:
        """The farewell to a player that is too slow says what it would have had to take."""
        self.begin(VIDEO)
        endings = []
        frames = video_frames(VIDEO, 20, frame_rate=RATE, gop=25, size=11_000)
        follower = SocketFollower(_Unread(), self.clock, self.policy, endings.append)
        self.send(frames[:25])
        follower.follow(self.rendering())
        self.turn()
        follower.pauseProducing()
        for frame in frames[25:]:
            self.send([frame])
        follower.resumeProducing()
        (ending,) = endings
        self.assertIn("your connection cannot take the 2.8 Mbit/s of this stream", ending.reason)


class _Unread:
    """A transport that takes anything."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """It asks for nothing."""

    def write(self, data: bytes) -> None:
        """Nothing becomes of it."""
