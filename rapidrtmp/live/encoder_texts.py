"""What an encoder says about moments of its stream (``onTextData``, ``onCuePoint``), as timed metadata for players."""

from __future__ import annotations

import json

from rapidrtmp.cmaf.event_messages import write_text_tag
from rapidrtmp.media import TimedMetadata
from rapidrtmp.rtmp.events import DataReceived

__all__ = ["EncoderTexts", "TextError"]

#: Of what players cannot use: the time of day at the encoder, the end of a sequence, how a player is to be let in.
_NOT_FOR_PLAYERS = frozenset({"onFI", "onStatus", "onBWDone", "onPlayStatus", "onLastSecond"})
MOST_BYTES = 16 << 10
MOST_PER_SECOND = 30


class TextError(Exception):
    """It is not passed on; the message says why."""


class EncoderTexts:
    """
    Makes timed metadata of one publisher's data messages, in bounds.

    Each becomes an ID3 tag with one ``TXXX`` frame, whose description is the message's name and whose text is its
    value as JSON, or an array of its values where there are several.
    """

    def __init__(self) -> None:
        self._second = -1
        self._count = 0

    def read(self, event: DataReceived, stream_ms: int, time_ms: int) -> TimedMetadata | None:
        """
        Timed metadata of a message; ``None`` for one that is not for players.

        :param stream_ms: where the stream is, on its own timeline.
        :param time_ms: now.
        :raises TextError: it is too large, one of too many, or not what JSON can say.
        """
        if not event.name.startswith("on") or event.name in _NOT_FOR_PLAYERS:
            return None
        if time_ms // 1000 != self._second:
            self._second, self._count = time_ms // 1000, 0
        self._count += 1
        if self._count > MOST_PER_SECOND:
            raise TextError(f"more than {MOST_PER_SECOND} data messages a second")
        said = event.values[0] if len(event.values) == 1 else event.values
        try:
            text = json.dumps(said, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TextError(f"{event.name}: {error}") from error
        if len(text) > MOST_BYTES:
            raise TextError(f"{event.name} of {len(text)} characters")
        data = write_text_tag({event.name: text})
        return TimedMetadata(stream_ms, data, name=event.name, values=tuple(event.values))
