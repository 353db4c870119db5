"""What the author of a decoding sink writes, and what a decoding sink may answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Answer", "Cue", "DecodingSink", "Mark", "Note", "Result", "Upload"]


@dataclass(frozen=True, slots=True)
class Note:
    """
    Becomes an event ``note`` of the stream, for hooks and all who follow the events.

    :ivar data: what is to be said, by name, as JSON can say it; nothing secret. At most 64 KiB of JSON.
    """

    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """
    Becomes timed metadata of the stream: an ID3 tag with a ``TXXX`` frame for each text, which players give to the page
    when its moment is shown.

    :ivar texts: by their descriptions; at most 16 KiB in all.
    :ivar utc_ms: that moment, in milliseconds since 1970: what ``picture`` or ``audio`` was given.
    """

    texts: Mapping[str, str]
    utc_ms: int


@dataclass(frozen=True, slots=True)
class Cue:
    """
    Becomes a caption of the stream, in a language that the factory has announced.

    :ivar text: what is said; at most 2000 characters.
    :ivar utc_ms: when it is said, in milliseconds since 1970: what ``audio`` was given, or later.
    :ivar duration_ms: for how long it is shown; at most a minute.
    :ivar language: empty for the first one.
    """

    text: str
    utc_ms: int
    duration_ms: int
    language: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """
    Becomes an object that is served as ``/APP/KEY/NAME``, in place of the one before.

    :ivar name: without a slash; not one that other sinks use.
    :ivar data: its bytes, at most 16 MiB.
    :ivar content_type: its media type.
    """

    name: str
    data: bytes
    content_type: str


Answer: TypeAlias = "Cue | Mark | Note | Upload"
Result: TypeAlias = "Answer | Iterable[Answer] | None"


class DecodingSink:
    """
    Sees the decoded pictures of one stream, and hears its sound.

    Derive from it, override :meth:`picture`, :meth:`audio` or both, and name the class in a
    :class:`~rapidrtmp.decoding.DecodingSinkFactory`. What is not overridden is not decoded.

    The object lives in a process of its own, and may take its time: when it is behind, frames are left out up to a
    keyframe. What it raises is logged, and the next picture comes all the same. What it prints goes to the log.

    The constructor is called with the factory's ``options``, once for each stream, and again if the process had to be
    started anew.

    :ivar sample_rate: of ``samples``, in samples a second; 0 before the first.
    :ivar audio_chunk_ms: about how much sound :meth:`audio` is given at a time.
    """

    sample_rate = 0
    audio_chunk_ms = 1_000

    def picture(self, image: npt.NDArray[np.uint8], utc_ms: int) -> Result:
        """
        Take one picture of the leading video track.

        :param image: height x width x 3: red, green and blue, 0 to 255.
        :param utc_ms: when it was live, in milliseconds since 1970.
        """

    def audio(self, samples: npt.NDArray[np.float32], utc_ms: int) -> Result:
        """
        Take a piece of sound of the first audio track.

        :param samples: channels x samples, -1 to 1.
        :param utc_ms: when the first of them was live, in milliseconds since 1970.
        """

    def close(self) -> Result:
        """Take the end of the stream; nothing follows."""
