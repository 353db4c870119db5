"""Which tracks of a stream a player asks for: ``KEY?video=1``, ``KEY?audio=2``, ``KEY?only=audio``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rapidrtmp.errors import NotFoundError
from rapidrtmp.media import MediaKind, Track

__all__ = ["EVERYTHING", "Selection", "read_selection"]

_KINDS = {kind.value: kind for kind in MediaKind}
_MOST_TRACKS = 255


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Some tracks of a stream.

    :ivar video: the one of that place among them, the first is 0; ``None`` for all. Likewise ``audio``.
    :ivar kinds: those that are taken at all.
    """

    video: int | None = None
    audio: int | None = None
    kinds: frozenset[MediaKind] = frozenset(MediaKind)

    def pick(self, tracks: Iterable[Track]) -> tuple[Track, ...]:
        """Those tracks among all."""
        picked: list[Track] = []
        places = dict.fromkeys(MediaKind, 0)
        for track in tracks:
            place = places[track.kind]
            places[track.kind] += 1
            wanted = self.video if track.kind is MediaKind.VIDEO else self.audio
            if track.kind in self.kinds and wanted in (None, place):
                picked.append(track)
        return tuple(picked)

    def is_there(self, tracks: Iterable[Track]) -> bool:
        """Whether the tracks that are named are among all."""
        picked = {track.kind for track in self.pick(tracks)}
        named = {MediaKind.VIDEO: self.video, MediaKind.AUDIO: self.audio}
        return bool(picked) and all(kind in picked for kind in self.kinds if named[kind] is not None)


EVERYTHING = Selection()


def read_selection(parameters: Mapping[str, str]) -> Selection:
    """
    What a query asks for; ``rendition`` is not looked at.

    :raises NotFoundError: it can be no track.
    """
    only = parameters.get("only", "")
    if only and only not in _KINDS:
        raise NotFoundError("only=audio and only=video can be asked for")
    kinds = frozenset([_KINDS[only]]) if only else frozenset(MediaKind)
    return Selection(_place(parameters, "video"), _place(parameters, "audio"), kinds)


def _place(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= _MOST_TRACKS):
        raise NotFoundError(f"{name} is asked for by a number, 0 for the first")
    return int(text)
