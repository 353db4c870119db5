"""Whether a ladder is wanted, where that is for viewers alone: from the first to a minute after the last."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["LINGER_S", "Watching"]

#: A ladder lasts for so long behind its last viewer; so often it is seen whether there are any.
LINGER_S, LOOK_S = 60.0, 5.0


class Watching:
    """
    Whether one stream's is wanted.

    :param is_watched: tells whether the stream has viewers.
    :param changed: called whenever ``is_wanted`` has changed.
    """

    def __init__(self, clock: IReactorTime, is_watched: Callable[[], bool], changed: Callable[[], object]) -> None:
        self.is_wanted = False
        self._clock = clock
        self._is_watched = is_watched
        self._changed = changed
        self._seen_s = 0.0  # when there was a viewer last
        self._looking: IDelayedCall | None = None

    def asked_for(self) -> None:
        """A viewer asks for it."""
        self._seen_s = self._clock.seconds()
        if self._looking is None:
            self._looking = self._clock.callLater(LOOK_S, self._look)
            self.is_wanted = True
            self._changed()

    def _look(self) -> None:
        now = self._clock.seconds()
        if self._is_watched():
            self._seen_s = now
        if now - self._seen_s < LINGER_S:
            self._looking = self._clock.callLater(LOOK_S, self._look)
            return
        self._looking = None
        self.is_wanted = False
        self._changed()

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
