from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.check.media import MediaProbe
from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.interfaces import Sample, TrackRun
from rapidrtmp.m3u8.model import Part, Segment
from rapidrtmp.media import Frame
from rapidrtmp.testing.frames import make_video_track

VIDEO = make_video_track()
FRAME = 3_000
SECOND = 1_000_000


def fragment(first: int, frames: int = 30, *, keyframe: bool = True, late: int = 0) -> bytes:
    """So many frames from frame ``first`` on, the first a keyframe perhaps, all of them some ticks late."""
    samples = [
        Sample(Frame(VIDEO, number * FRAME + late, 0, FRAME, keyframe and number == first, b"\0\0\0\1x", 0), FRAME)
        for number in range(first, first + frames)
    ]
    return b"".join(write_fragment(1, [TrackRun(VIDEO, samples)]))


class MediaProbeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.probe = MediaProbe(independent=True)
        self.assertEqual([], self.probe.read_init(write_init_segment((VIDEO,))))

    def segment(self, sequence: int, data: bytes, *, seconds: float = 1, discontinuity: bool = False) -> list[str]:
        """What is found in a segment."""
        segment = Segment(sequence, "s", int(seconds * SECOND), discontinuity)
        return [str(found) for found in self.probe.check_segment(segment, data)]

    def part(self, part: Part, data: bytes) -> list[str]:
        """What is found in a part, the first of its segment."""
        return [str(found) for found in self.probe.check_part(Segment(5, parts=(part,)), 0, data)]

    def test_good_segments_are_good(self) -> None:
        """Segments that join on, of one fragment or several, are good."""
        self.assertEqual([], self.segment(5, fragment(0)))
        self.assertEqual([], self.segment(6, fragment(30, 15) + fragment(45, 15, keyframe=False)))

    def test_joins_are_held_to_times(self) -> None:
        """A decode time that is not where the fragment before ended is wrong, a little off is worth a warning."""
        self.segment(5, fragment(0))
        (found,) = self.segment(6, fragment(31))
        self.assertEqual(
            "error [media] segment 6: decode time of track 1 is 0.033333 s off from where the fragment before ended",
            found,
        )
        self.assertEqual([], self.segment(7, fragment(61)))
        (found,) = self.segment(8, fragment(91, late=45))
        self.assertIn("warning", found)

    def test_decode_time_starts_anew(self) -> None:
        """After a discontinuity, and after a segment that was not seen, decode times may be anything."""
        self.segment(5, fragment(0))
        self.assertEqual([], self.segment(6, fragment(500), discontinuity=True))
        self.assertEqual([], self.segment(8, fragment(900)))

    def test_duration_is_held_to_samples(self) -> None:
        """EXTINF is what the samples last: by more than a millisecond a doubt, by more than a frame an error."""
        self.assertEqual([], self.segment(5, fragment(0), seconds=1.0009))
        self.assertIn("warning", self.segment(7, fragment(0), seconds=1.002)[0])
        self.assertIn("error [media] segment 9: lasts 1 s", self.segment(9, fragment(0), seconds=1.04)[0])

    def test_keyframe_begins_a_segment(self) -> None:
        """A segment begins with a keyframe; not to is an error where the playlist claims it."""
        self.assertIn("error", self.segment(5, fragment(0, keyframe=False))[0])
        self.probe.independent = False
        self.assertIn("warning", self.segment(6, fragment(30, keyframe=False))[0])

    def test_part_lasts_its_duration(self) -> None:
        """A part lasts what DURATION says, to a frame, and INDEPENDENT is true of it."""
        self.assertEqual([], self.part(Part("p", SECOND, independent=True), fragment(0)))
        self.assertEqual([], self.part(Part("p", SECOND + 30_000), fragment(0, keyframe=False)))
        self.assertEqual([], self.part(Part("p", SECOND + 33_340), fragment(0, keyframe=False)), "it is rounded")
        (found,) = self.part(Part("p", SECOND + 40_000), fragment(0, keyframe=False))
        self.assertIn("lasts 1 s, DURATION says 1.04 s", found)
        (found,) = self.part(Part("p", SECOND, independent=True), fragment(0, keyframe=False))
        self.assertIn("error [media] segment 5, part 0: INDEPENDENT", found)
        (found,) = self.part(Part("p", SECOND), fragment(0))
        self.assertIn("warning", found)

    def test_damage_is_said_with_its_place(self) -> None:
        """What cannot be read is said with its place, and forgotten with the next segment."""
        self.segment(5, fragment(0))
        (found,) = self.segment(6, fragment(30)[:-1])
        self.assertRegex(found, r"segment 6: box 'mdat' at \d+")
        self.assertEqual(["error [media] segment 7: no fragments"], self.segment(7, b""))
        self.assertEqual([], self.segment(8, fragment(90)))

    def test_init_damage_is_one_error(self) -> None:
        """A wrong init segment is one error, not one for each segment behind it."""
        (found,) = self.probe.read_init(b"")
        self.assertEqual("error [media] init segment: no moov: this is no init segment", str(found))
        self.assertEqual([], self.segment(5, fragment(0)))
