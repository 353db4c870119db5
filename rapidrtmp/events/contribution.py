"""What events bring to the server: the route that tells them, and what watches for those that nothing causes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.events.hooks import Hooks
from rapidrtmp.events.http import EventStreams
from rapidrtmp.events.log import EventLog
from rapidrtmp.events.openapi import event_paths, event_schemas
from rapidrtmp.interfaces import (
    Audience,
    Contribution,
    ContributionContext,
    Event,
    IContributes,
    IEventListener,
    Route,
)
from rapidrtmp.support.bug_log import BugLog
from rapidrtmp.support.text import class_name

__all__ = ["EventsService"]

#: How often streams are asked whether viewers have left, in seconds.
LOOK_S = 1.0


@implementer(IContributes)
class EventsService(Service):
    """
    Serves events to clients, and passes them to plugins while the server runs.

    :param listeners: those plugins, as they are when it happens.
    :param look: called once a second, to notice what has ended without a word.
    :ivar streams: the clients that follow.
    """

    def __init__(
        self,
        log: EventLog,
        clock: IReactorTime,
        listeners: Callable[[], Iterable[IEventListener]],
        hooks: Hooks,
        look: Callable[[], object],
    ) -> None:
        self._hooks = hooks
        self.streams = EventStreams(log, clock)
        self._log = log
        self._listeners = listeners
        self._looking = LoopingCall(self._look, look)
        self._looking.clock = clock
        self._bugs = BugLog(Logger())
        log.follow(self._tell)

    def contribute(self, _context: ContributionContext) -> Contribution:
        """See :meth:`IContributes.contribute <rapidrtmp.interfaces.IContributes.contribute>`."""
        return Contribution(
            routes=(
                Route("GET", "/api/v1/events", Audience.MANAGEMENT, self.streams.respond),
                Route("GET", "/api/v1/hooks", Audience.MANAGEMENT, self._hooks.respond),
            ),
            paths=event_paths(),
            schemas=event_schemas(),
            services=(self,),
        )

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._looking.start(LOOK_S, now=False)

    def stopService(self) -> None:
        """Look no more; clients still hear of what happens while the server stops."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._looking.running:
            self._looking.stop()

    def _look(self, look: Callable[[], object]) -> None:
        try:
            look()
        except Exception:
            self._bugs.failure("internal error, looking for what has ended")

    def _tell(self, events: Sequence[Event]) -> None:
        listeners = list(self._listeners())
        for event in events:
            for listener in listeners:
                try:
                    listener.event_recorded(event)
                except Exception:
                    self._bugs.failure("internal error in the event listener {listener}", listener=class_name(listener))
