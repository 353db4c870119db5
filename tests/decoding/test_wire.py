"""What the server and the process that decodes say to each other arrives as it was meant, or is refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.decoding.base import Note, Upload
from rapidrtmp.decoding.wire import (
    MOST_BYTES,
    FrameHeader,
    Kind,
    MessageReader,
    TrackDescription,
    WireError,
    pack,
    pack_frame,
    pack_result,
    read_result,
    unpack_frame,
)
from tests.cutting import cuts_of
from tests.slow import slow

TIMES = st.integers(-(2**62), 2**62)
HEADERS = st.builds(FrameHeader, st.integers(0, 2**32 - 1), TIMES, TIMES, st.booleans(), st.booleans())


def read(data: bytes) -> list[tuple[int, bytes]]:
    return list(MessageReader().feed(data))


class MessageTests(SynchronousTestCase):
    @given(HEADERS, st.binary(max_size=50))
    def test_frames_come_back(self, header: FrameHeader, data: bytes) -> None:
        """A frame is read as it was written."""
        ((kind, body),) = read(pack_frame(header, data))
        self.assertEqual((Kind.FRAME, header, data), (kind, *unpack_frame(body)))

    @slow
    @given(st.data(), st.lists(st.binary(max_size=20), max_size=6))
    def test_any_pieces_make_messages(self, data: Any, bodies: list[bytes]) -> None:
        """However the bytes are cut, the messages are the same."""
        message_bytes = b"".join(pack(Kind.NOTE, body) for body in bodies)
        reader = MessageReader()
        pieces = data.draw(cuts_of(message_bytes))
        self.assertEqual(bodies, [body for piece in pieces for _, body in reader.feed(piece)])

    def test_tracks_come_back(self) -> None:
        """A track is read as it was written."""
        track = TrackDescription(3, "video", "avc1", "0164")
        ((_, body),) = read(track.pack())
        self.assertEqual(track, TrackDescription.read(body))

    def test_results_come_back(self) -> None:
        """Notes and uploads are read as they were written."""
        for result in (Note({"people": 3, "where": ["door"]}), Upload("a.jpg", b"\0\xff", "image/jpeg")):
            ((kind, body),) = read(pack_result(result))
            self.assertEqual(result, read_result(kind, body))

    def test_endless_message_is_refused(self) -> None:
        """A length beyond the bound is an error before its bytes are waited for."""
        with self.assertRaises(WireError):
            read(bytes([Kind.NOTE]) + (MOST_BYTES + 1).to_bytes(4, "big"))

    def test_unspeakable_notes_are_refused(self) -> None:
        """What JSON cannot say, or too much of it, is an error of the sink."""
        for data in ({"a": object()}, {"a": float("nan")}, {"a": "x" * 70_000}):
            with self.assertRaises(WireError):
                pack_result(Note(data))

    @given(st.integers(0, 6), st.binary(max_size=40))
    def test_damage_is_one_error(self, kind: int, body: bytes) -> None:
        """Any bytes are an answer, or a WireError."""
        try:
            self.assertIsInstance(read_result(kind, body), Note | Upload)
        except WireError:
            pass
