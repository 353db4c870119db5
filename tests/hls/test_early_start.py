"""Where the keyframe interval is known beforehand, the first playlist does not wait for the first GOP."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.packager import Packager
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, video_frames, video_frames_at
from rapidrtmp.testing.sinks import feed
from tests.cmaf.streams import AUDIO, RATES, VIDEO
from tests.hls.test_sink import Packaged
from tests.slow import slow

SECOND_AUDIO = make_audio_track(id=4)


def videos(rate: Fraction = Fraction(30), gop: int = 60, seconds: int = 8) -> list[Frame]:
    return video_frames(VIDEO, seconds, frame_rate=rate, gop=gop)


def first_listed(packaged: Packaged, frames: list[Frame]) -> int:
    """With how many frames the first playlist comes."""
    for number, frame in enumerate(frames, 1):
        feed(packaged.sink, [frame])
        if packaged.shelf.player.versions:
            return number
    raise AssertionError("no playlist has come")


class KnownIntervalTests(SynchronousTestCase):
    def test_first_part_is_listed_at_once(self) -> None:
        """The first playlist comes with the first part: a gap, which players need, and the part behind it."""
        packaged = Packaged({"keyframes": "2s"})
        packaged.sink.tracks_changed((VIDEO,))
        self.assertLessEqual(first_listed(packaged, videos()), 11)
        version = packaged.shelf.latest
        self.assertEqual([True], [segment.gap for segment in version.segments])
        assert version.open is not None
        self.assertEqual([True], [part.independent for part in version.open.parts])
        self.assertIsNotNone(packaged.shelf.find("master.m3u8"))

    @slow
    @given(st.sampled_from(RATES[:-1]), st.sampled_from([1, 2, 3]), st.booleans())
    def test_promises_are_those_of_the_whole_gop(self, rate: Fraction, seconds: int, has_audio: bool) -> None:
        """Target durations, and parts, are those that the first GOP would have led to, and are kept."""
        gop = round(seconds * rate)
        found = []
        for keyframes in ("0", f"{-(-gop * 1000 * rate.denominator // rate.numerator)}ms"):
            packaged = Packaged({"keyframes": keyframes})
            sound = audio_frames(AUDIO, 10) if has_audio else []
            tracks = (VIDEO, AUDIO) if has_audio else (VIDEO,)
            frames = interleaved(videos(rate, gop, 10), sound)
            packaged.range(*tracks, frames=frames)
            packaged.sink.finish()
            listed = {segment.sequence: segment for each in packaged.shelf.player.versions for segment in each.segments}
            durations = [segment.duration for _, segment in sorted(listed.items()) if not segment.gap]
            latest = packaged.shelf.latest
            found.append((latest.target, packaged.shelf.player.versions[0].part_target, durations))
            media = [name for name in packaged.shelf.bodies if name.startswith("segment_")]
            self.assertEqual(len(durations), len(media))
        self.assertEqual(*found)

    def test_no_hint_is_wrong(self) -> None:
        """The end of the first segment is known in advance as well."""
        packaged = Packaged({"keyframes": "2s"})
        packaged.range(VIDEO, AUDIO, frames=interleaved(videos(), audio_frames(AUDIO, 8)))
        self.assertEqual(0, packaged.metrics.total("hints_withdrawn_total"))

    def test_longer_interval_keeps_the_promises(self) -> None:
        """Keyframes that are further apart than was said change no promise: segments are cut without one."""
        packaged = Packaged({"keyframes": "2s"})
        packaged.range(VIDEO, frames=videos(gop=150, seconds=20))
        packaged.sink.finish()
        versions = packaged.shelf.player.versions
        self.assertEqual({2}, {version.target for version in versions})
        self.assertTrue(all(segment.duration < 2.5 for version in versions for segment in version.segments))
        self.assertFalse(versions[-1].independent)

    def test_frames_without_a_grid_are_awaited(self) -> None:
        """Where frames come as they like, a part's length shows with the whole GOP alone."""
        packaged = Packaged({"keyframes": "2s"})
        packaged.sink.tracks_changed((VIDEO,))
        times = [number * 3_000 + (number % 3) * 500 for number in range(200)]
        self.assertEqual(61, first_listed(packaged, video_frames_at(VIDEO, times, range(0, 200, 60))))

    def test_several_renditions_begin_together(self) -> None:
        """With further tracks the first playlists come with a whole segment."""
        packaged = Packaged({"keyframes": "2s"})
        packaged.sink.tracks_changed((VIDEO, AUDIO, SECOND_AUDIO))
        sounds = interleaved(audio_frames(AUDIO, 8), audio_frames(SECOND_AUDIO, 8))
        first_listed(packaged, interleaved(videos(), sounds))
        self.assertEqual([False], [segment.gap for segment in packaged.shelf.latest.segments])

    def test_storage_lists_media_alone_or_gaps(self) -> None:
        """The stored playlist names what is stored."""
        packaged = Packaged({"keyframes": "2s"})
        packaged.range(VIDEO, frames=videos())
        packaged.sink.finish()
        stored = packaged.storage.objects
        name = next(name for name in stored if name.endswith("index.m3u8"))
        text = stored[name].decode()
        self.assertIn("#EXT-X-GAP", text)
        lines = text.splitlines()
        named = [line for at, line in enumerate(lines) if line.startswith("segment_") and "GAP" not in lines[at - 2]]
        self.assertLessEqual({f"{name.rpartition('/')[0]}/{each}" for each in named[1:]}, set(stored))

    def test_settings_that_make_no_sense(self) -> None:
        """An interval that is too short or long, or beside a rewind window, is refused in words."""
        for spec in ({"keyframes": "50ms"}, {"keyframes": "20s"}, {"keyframes": "2s", "dvr": "1h"}):
            self.assertRaises(ConfigurationError, HlsSinkFactory, **spec)


class LastPublishTests(SynchronousTestCase):
    def publish(self, factory: HlsSinkFactory, frames: list[Frame]) -> tuple[Packaged, int]:
        packaged = Packaged()
        packaged.sink = Packager(factory.create(packaged.context))
        packaged.sink.tracks_changed((VIDEO,))
        count = first_listed(packaged, frames)
        feed(packaged.sink, frames[count:])
        packaged.sink.finish()
        return packaged, count

    def test_next_publish_begins_early(self) -> None:
        """A stream that was published before begins with its first part the next time, with the same promises."""
        factory = HlsSinkFactory(keyframes="auto")
        first, count = self.publish(factory, videos())
        self.assertEqual(61, count)
        second, count = self.publish(factory, videos())
        self.assertLessEqual(count, 11)
        self.assertEqual(first.shelf.latest.target, second.shelf.latest.target)

    def test_reload_keeps_what_is_known(self) -> None:
        """What is known is known to the factory that takes the place of another."""
        factory = HlsSinkFactory(keyframes="auto")
        self.publish(factory, videos())
        following = HlsSinkFactory(window="6", keyframes="auto")
        following.take_over(factory)
        self.assertLessEqual(self.publish(following, videos())[1], 11)

    def test_nothing_is_assumed_by_itself(self) -> None:
        """If the operator does not ask for it every publish waits for its first GOP."""
        factory = HlsSinkFactory()
        for _ in range(2):
            self.assertEqual(61, self.publish(factory, videos())[1])
