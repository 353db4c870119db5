"""The captions of one stream, in bounds: the last few hundred, in the order in which they came."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from types import MappingProxyType

from zope.interface import implementer

from rapidrtmp.errors import MisuseError
from rapidrtmp.interfaces.captions import Caption, ICaptions

__all__ = ["Captions"]

MOST_LANGUAGES, MOST_CAPTIONS, MOST_CHARACTERS, LONGEST_MS = 8, 500, 2000, 60_000
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,2}", re.ASCII)


@implementer(ICaptions)
class Captions:
    """See :class:`ICaptions <rapidrtmp.interfaces.ICaptions>`."""

    def __init__(self) -> None:
        self._tracks: dict[str, str] = {}
        self.tracks = MappingProxyType(self._tracks)
        self._kept: deque[Caption] = deque(maxlen=MOST_CAPTIONS)
        self._count = 0

    def announce(self, language: str, name: str) -> None:
        """See :meth:`ICaptions.announce <rapidrtmp.interfaces.ICaptions.announce>`."""
        if not _LANGUAGE.fullmatch(language):
            raise MisuseError(f"{language!r} is no language such as en or pt-BR")
        if language not in self._tracks and len(self._tracks) == MOST_LANGUAGES:
            raise MisuseError(f"captions in more than {MOST_LANGUAGES} languages")
        self._tracks.setdefault(language, name)

    def add(self, caption: Caption) -> None:
        """See :meth:`ICaptions.add <rapidrtmp.interfaces.ICaptions.add>`."""
        if caption.language not in self._tracks:
            raise MisuseError(f"captions in {caption.language!r} were not announced")
        if len(caption.text) > MOST_CHARACTERS:
            raise MisuseError(f"a caption of {len(caption.text)} characters")
        if not 0 <= caption.end_ms - caption.start_ms <= LONGEST_MS:
            raise MisuseError(f"a caption from {caption.start_ms} to {caption.end_ms} ms")
        self._kept.append(caption)
        self._count += 1

    def since(self, number: int) -> tuple[int, Sequence[Caption]]:
        """See :meth:`ICaptions.since <rapidrtmp.interfaces.ICaptions.since>`."""
        new = min(self._count - number, len(self._kept))
        return self._count, list(self._kept)[len(self._kept) - new :] if new > 0 else ()
