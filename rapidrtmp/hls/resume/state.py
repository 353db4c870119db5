"""
``state.json``: what a server needs, beside the stored playlist, to resume a stream that its predecessor left.

The stored playlist lists what is stored; players have seen more. So a few media sequence numbers are *reserved*
before they are used: whatever was published, and however the server died, it was below the number that stands here.
The highest discontinuity sequence number in use stands here as well, written when that discontinuity begins. So do the
promises of the playlist, because the stored one has no parts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from rapidrtmp.errors import MediaError
from rapidrtmp.interfaces import Constants
from rapidrtmp.support.stored_json import StoredObjectFields

__all__ = [
    "MOST_RESERVED",
    "MOST_SEQUENCE",
    "RENEW_BELOW",
    "RESERVED_AHEAD",
    "RESERVED_PER_WAITING",
    "STATE_TYPE",
    "StoredState",
]

STATE_TYPE = "application/json"
#: So many numbers are reserved at a time, and again when so few of them are left.
RESERVED_AHEAD, RENEW_BELOW = 6, 3
#: A storage that is behind learns of a reservation late, and may fall behind further: so many more are reserved for
#: each segment that waits for it, in all not more than this.
RESERVED_PER_WAITING, MOST_RESERVED = 3, 32
_FORMAT = 1
#: What no playlist of ours exceeds: numbers begin at the half-seconds since 2020 and rise by one a segment.
MOST_SEQUENCE, MOST_TARGET_S = 2**40, 3_600


@dataclass(frozen=True, slots=True)
class StoredState:
    """
    What ``state.json`` says.

    :ivar constants: what the playlist promises.
    :ivar next_sequence: above every media sequence number that was ever published.
    :ivar ended: whether the playlist is final.
    :ivar discontinuity: the highest discontinuity sequence number that was ever published; ``None`` where an earlier
        version of this program wrote the state.
    """

    constants: Constants
    next_sequence: int
    ended: bool = False
    discontinuity: int | None = None

    def render(self) -> bytes:
        """As JSON, UTF-8."""
        fields: dict[str, int] = {
            "format": _FORMAT,
            "targetDuration": self.constants.target_s,
            "partTarget": self.constants.part_target_ms,
            "nextSequence": self.next_sequence,
            "ended": self.ended,
        }
        if self.discontinuity is not None:
            fields["discontinuity"] = self.discontinuity
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> StoredState:
        """
        Read it.

        :raises MediaError: it is damaged, or a newer program wrote it.
        """
        fields = StoredObjectFields(data)
        if fields.value("format") != _FORMAT:
            raise MediaError(f"state of format {fields.value('format')!r:.20}, and only {_FORMAT} is known here")
        target_s = fields.whole("targetDuration", 1, MOST_TARGET_S)
        return cls(
            Constants(target_s, fields.whole("partTarget", most=1000 * target_s)),
            fields.whole("nextSequence", most=MOST_SEQUENCE),
            fields.flag("ended"),
            fields.whole("discontinuity", most=MOST_SEQUENCE) if "discontinuity" in fields else None,
        )
