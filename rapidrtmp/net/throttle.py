"""When to stop reading a publisher that sends faster than real time, and when to read again."""

from __future__ import annotations

__all__ = ["Throttle"]

#: Media may be ahead of time by this much; reading continues when it is ahead by no more than the lesser.
LONGEST_LEAD_MS, RESUMED_LEAD_MS = 10_000, 8_000
#: A clock that runs fast by up to one part in this many never adds up to a lead.
FORGIVEN_PART = 1_000


class Throttle:
    """
    Watches how far one publisher's media is ahead of the time that has passed.

    A publisher that pushes a file without pacing would otherwise flush the live window of every viewer at once.

    :param media_ms: where on the stream's timeline its media begins.
    :param now_ms: when, by the server's clock.
    :ivar is_holding: whether its socket should not be read now.
    """

    def __init__(self, media_ms: int, now_ms: int) -> None:
        self.is_holding = False
        self._began = (media_ms, now_ms)

    def update(self, media_ms: int, now_ms: int) -> bool:
        """
        Decide anew.

        :param media_ms: the end of what has been received, on the stream's timeline.
        :param now_ms: the server's clock.
        :returns: whether the decision has changed.
        """
        began_media_ms, began_ms = self._began
        passed_ms = now_ms - began_ms
        lead_ms = media_ms - began_media_ms - passed_ms - passed_ms // FORGIVEN_PART
        if lead_ms < 0:
            self._began = (media_ms, now_ms)
        should_hold = lead_ms > (RESUMED_LEAD_MS if self.is_holding else LONGEST_LEAD_MS)
        has_changed = should_hold != self.is_holding
        self.is_holding = should_hold
        return has_changed
