"""The picture that stored media begins with, as a fragment of one sample."""

from __future__ import annotations

from struct import pack

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.boxes import box, full_box
from rapidrtmp.cmaf.event_messages import write_event_messages, write_text_tag
from rapidrtmp.cmaf.fragment import write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.pictures import (
    find_first_sample,
    picture_track,
    track_duration,
    write_picture,
)
from rapidrtmp.cmaf.reader import read_fragments, read_init_segment
from rapidrtmp.errors import MediaError
from rapidrtmp.interfaces import Sample, TrackRun
from rapidrtmp.media import TimedMetadata
from rapidrtmp.testing.frames import audio_frames, make_audio_track, make_video_track, video_frames

VIDEO, AUDIO = make_video_track(), make_audio_track()
PICTURES = video_frames(VIDEO, 1, gop=30, size=400)
RUNS = [
    TrackRun(VIDEO, [Sample(frame, 3000) for frame in PICTURES]),
    TrackRun(AUDIO, [Sample(frame, 1024) for frame in audio_frames(AUDIO, 1, size=40)]),
]
MEDIA = b"".join((*write_event_messages([TimedMetadata(0, write_text_tag({"a": "b"}))]), *write_fragment(1, RUNS)))
INIT = write_init_segment([VIDEO, AUDIO])


class PictureTrackTests(SynchronousTestCase):
    def test_other_tracks_are_left_out(self) -> None:
        """The init segment of pictures describes the video track as the whole one does, and no other."""
        track = picture_track(INIT)
        assert track is not None
        self.assertEqual(read_init_segment(INIT)[:1], read_init_segment(track.init))
        self.assertEqual(track.info, read_init_segment(track.init)[0])

    def test_audio_has_no_pictures(self) -> None:
        """There is none where there is no video."""
        self.assertIsNone(picture_track(write_init_segment([AUDIO])))
        self.assertRaises(MediaError, picture_track, b"no init segment")


class FirstSampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        track = picture_track(INIT)
        assert track is not None
        self.track = track

    def test_keyframe_is_found(self) -> None:
        """The first sample of the video track is found, wherever its bytes are, and however much was read of them."""
        sample = find_first_sample(MEDIA, self.track.info)
        assert sample is not None
        self.assertEqual(PICTURES[0].data, MEDIA[sample.start : sample.end])
        self.assertTrue(sample.keyframe)
        self.assertEqual(sample, find_first_sample(MEDIA[: sample.start], self.track.info))
        self.assertIsNone(find_first_sample(MEDIA[:300], self.track.info), "its header is not whole")
        self.assertEqual(90_000, track_duration(MEDIA, self.track.info))

    def test_part_without_video(self) -> None:
        """A fragment of audio alone is passed over."""
        audio = b"".join(write_fragment(1, RUNS[1:]))
        self.assertIsNone(find_first_sample(audio, self.track.info))
        sample = find_first_sample(audio + MEDIA, self.track.info)
        assert sample is not None
        self.assertEqual(PICTURES[0].data, (audio + MEDIA)[sample.start : sample.end])

    def test_defaults_of_others(self) -> None:
        """What other packagers leave to tfhd, and say of the first sample alone, is understood."""
        tfhd = full_box(b"tfhd", 0, 0x020038, pack(">IIII", 1, 3000, 400, 0x01010000))
        tfdt = full_box(b"tfdt", 0, 0, pack(">I", 90_000))
        trun = full_box(b"trun", 0, 0x000005, pack(">IiI", 3, 200, 0x02000000))
        media = box(b"moof", box(b"traf", tfhd, tfdt, trun))
        sample = find_first_sample(media, self.track.info)
        self.assertEqual((90_000, 0, 3000, 200, 400, True), sample)
        self.assertEqual(9000, track_duration(media, self.track.info))
        later = media.replace(pack(">I", 0x02000000), pack(">I", 0x01010000))
        found = find_first_sample(later, self.track.info)
        assert found is not None
        self.assertFalse(found.keyframe)

    def test_damage_is_a_media_error(self) -> None:
        """What cannot be read is an error of its own, never another one."""
        for data in (
            box(b"moof", box(b"traf", full_box(b"tfhd", 0, 0, b"\0"))),
            box(b"moof", box(b"traf", full_box(b"tfhd", 0, 1, pack(">IQ", 1, 0)))),
            box(b"moof", box(b"traf", full_box(b"trun", 0, 0x301, pack(">I", 1)))),
            pack(">I4s", 3, b"moof"),
        ):
            self.assertRaises(MediaError, find_first_sample, data, self.track.info)

    def test_written_as_one_sample(self) -> None:
        """What is written is a fragment of that sample alone, for as long as is said."""
        sample = find_first_sample(MEDIA, self.track.info)
        assert sample is not None
        picture = write_picture(self.track.info, sample, PICTURES[0].data, 7, 180_000)
        (fragment,) = read_fragments(picture, read_init_segment(self.track.init))
        self.assertEqual(7, fragment.sequence_number)
        ((track_id, start, (written,)),) = fragment.tracks
        self.assertEqual((1, PICTURES[0].dts), (track_id, start))
        self.assertEqual((180_000, True, PICTURES[0].data), (written.duration, written.keyframe, written.payload))
        self.assertEqual(written.pts, PICTURES[0].pts)
