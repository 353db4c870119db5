"""Which tracks a player asks for in its query."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import NotFoundError
from rapidrtmp.play.selection import EVERYTHING, read_selection
from rapidrtmp.testing.frames import make_audio_track, make_video_track

TRACKS = make_video_track(), make_audio_track(), make_video_track(640, 360, id=3), make_audio_track(id=4)


class SelectionTests(SynchronousTestCase):
    def picked(self, **parameters: str) -> list[int]:
        """The ids of the tracks that a query picks."""
        selection = read_selection(parameters)
        return [track.id for track in selection.pick(TRACKS)] if selection.is_there(TRACKS) else []

    def test_tracks_are_picked_by_place(self) -> None:
        """Tracks are named by their place among those of their kind, kinds by name; other fields do not matter."""
        self.assertEqual([1, 2, 3, 4], self.picked(rendition="720p", token="x"))
        self.assertEqual([2, 3, 4], self.picked(video="1"))
        self.assertEqual([1, 3, 4], self.picked(audio="1"))
        self.assertEqual([1, 4], self.picked(video="0", audio="1"))
        self.assertEqual([2, 4], self.picked(only="audio"))
        self.assertEqual([3], self.picked(only="video", video="1"))
        self.assertIs(frozenset, type(EVERYTHING.kinds))

    def test_tracks_that_are_not_there(self) -> None:
        """A place where there is no track picks nothing."""
        for name in ("video", "audio"):
            self.assertEqual([], self.picked(**{name: "2"}))

    def test_nonsense_is_not_found(self) -> None:
        """What can be no place, and no kind, is refused."""
        for parameters in ({"video": "-1"}, {"audio": "1.5"}, {"video": "256"}, {"video": "²"}, {"only": "subtitles"}):
            self.assertRaises(NotFoundError, read_selection, parameters)
