"""All pull relays: those that run always, and those that run while a player wants their stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rapidrtmp.interfaces import ContributionContext, PullSource, RecordEvent, no_event
from rapidrtmp.names import StreamName
from rapidrtmp.relay.failure import FailureKind, RelayFailure
from rapidrtmp.relay.pull import PullRelay
from rapidrtmp.relay.push import PushParts
from rapidrtmp.relay.report import RelayMetrics, RelayStatus
from rapidrtmp.rtmp.remote import BadAddressError, parse_address
from rapidrtmp.support.clock import now_ms

__all__ = ["PullRelays"]

#: How often it is looked whether a stream is still watched, in seconds.
LOOK_S = 1.0
#: How often a process that does not pull a stream looks whether the one that does is gone, in milliseconds.
ELECT_MS = 3_000
#: Streams that are pulled on demand at a time: players can ask for any name.
MOST_ON_DEMAND = 500


@dataclass(slots=True, eq=False)
class _Pull:
    """
    One pull.

    :ivar waiting: those who wait for the stream; each wait ends at a time of the clock, in milliseconds.
    :ivar wanted_ms: when it was wanted last, by the clock.
    :ivar via: the servers through which the first player has come that wants it.
    :ivar is_elected: whether it is this process, of all that serve the same, that pulls it; ``None`` while that is
        asked. ``asked_ms``: when it was asked last, by the clock.
    """

    source: PullSource
    relay: PullRelay
    wanted_ms: int
    waiting: dict[Deferred[None], int] = field(default_factory=dict)
    via: tuple[str, ...] = ()
    is_elected: bool | None = None
    asked_ms: int = 0


def _election(name: StreamName) -> str:
    """What only one of several processes does: to pull this stream."""
    return f"pull:{name}"


def _forget(pull: _Pull, waiting: Deferred[None]) -> None:
    pull.waiting.pop(waiting, None)


class PullRelays(Service):
    """
    Begins and ends pulls.

    As a ``demand`` of a contribution it is asked for streams that are not here: those that the settings have pulled on
    demand, and whatever is asked for of an application with origins.
    """

    _log = Logger()

    def __init__(self, context: ContributionContext, parts: PushParts, metrics: RelayMetrics) -> None:
        self._context = context
        self._parts = parts
        self._metrics = metrics
        self._pulls: dict[StreamName, _Pull] = {}
        self._looking = LoopingCall(self._look)
        self._looking.clock = context.clock

    # ── as a service ─────────────────────────────────────────────────────────────────────────────────────────────────

    def startService(self) -> None:
        """Begin those that run always."""
        super().startService()  # type: ignore[no-untyped-call]
        self._looking.start(LOOK_S, now=False)
        self.follow()

    def stopService(self) -> None:
        """End all."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._looking.running:
            self._looking.stop()
        for name in list(self._pulls):
            self._end(name, is_final=False)

    def follow(self) -> None:
        """Follow other settings: pulls that are gone, or are others now, end; those that come begin."""
        if not self.running:
            return
        for name, pull in list(self._pulls.items()):
            if self._find_source(name) != pull.source:
                self._end(name)
        for app in self._context.apps.values():
            for source in app.relays.pull:
                name = StreamName(app.name, source.stream)
                if not source.on_demand and name not in self._pulls:
                    self._start(name, source, ())

    def _find_source(self, name: StreamName) -> PullSource | None:
        """Where a stream comes from, if it comes from elsewhere."""
        app = self._context.apps.get(name.app)
        if app is None or app.is_leaving:
            return None
        source = next((each for each in app.relays.pull if each.stream == name.key), None)
        if source is None and app.relays.origins:
            source = PullSource(name.key, tuple(app.relays.origins), on_demand=True)
        return source

    def is_pulled(self, name: StreamName) -> bool:
        """Whether what is published under a name now comes from another server."""
        pull = self._pulls.get(name)
        return pull is not None and pull.relay.is_publishing

    def of(self, name: StreamName) -> Sequence[PullRelay]:
        """The pull of a stream, if there is one."""
        pull = self._pulls.get(name)
        return [] if pull is None else [pull.relay]

    def statuses(self) -> Iterator[RelayStatus]:
        """Those of all pulls there are."""
        return (pull.relay.status for pull in self._pulls.values())

    # ── on demand ────────────────────────────────────────────────────────────────────────────────────────────────────

    def demand(self, name: StreamName, via: tuple[str, ...]) -> Deferred[None] | None:
        """See :data:`~rapidrtmp.interfaces.StreamDemand`."""
        source = self._find_source(name) if self.running else None
        if source is None:
            return None
        pull = self._pulls.get(name)
        if pull is None:
            if sum(each.source.on_demand for each in self._pulls.values()) >= MOST_ON_DEMAND:
                return None
            pull = self._start(name, source, via)
        if pull is None or pull.relay.is_publishing or pull.is_elected is False:
            return None
        pull.wanted_ms = now_ms(self._context.clock)
        waiting: Deferred[None] = Deferred(partial(_forget, pull))
        pull.waiting[waiting] = pull.wanted_ms + source.hold_ms
        return waiting

    def _start(self, name: StreamName, source: PullSource, via: tuple[str, ...]) -> _Pull | None:
        has_keys = name.key != source.stream or source.urls != self._origins(name)
        try:
            addresses = [parse_address(url, "" if has_keys else "{key}", name.key) for url in source.urls]
        except BadAddressError as error:
            self._log.error("{stream} cannot be pulled: {error}", stream=name, error=error)
            return None
        record: RecordEvent = self._context.events.record if self._context.events is not None else no_event
        status = RelayStatus(
            "pull",
            "pull",
            name,
            addresses[0].shown,
            clock=self._context.clock,
            utc_ms=self._context.utc_ms,
            record=record,
            metrics=self._metrics,
        )

        def began() -> None:
            self._answer(name, pull)

        def gave_up(failure: RelayFailure) -> None:
            self._failed(name, pull, failure)

        relay = PullRelay(
            name, addresses, source.ca, status, self._parts, self._context.publish, began=began, gave_up=gave_up
        )
        pull = self._pulls[name] = _Pull(source, relay, now_ms(self._context.clock), via=via)
        self._elect(name, pull)
        return pull

    def _elect(self, name: StreamName, pull: _Pull) -> None:
        """Pull a stream, unless another process does."""
        pull.asked_ms = now_ms(self._context.clock)

        def asked(is_elected: bool) -> None:
            if self._pulls.get(name) is not pull:
                if is_elected and name not in self._pulls:
                    self._context.resign(_election(name))
                return
            pull.is_elected = is_elected
            if is_elected:
                pull.relay.start(pull.via)
            else:
                self._answer(name, pull)  # the stream is there, or comes there

        self._context.elect(_election(name)).addCallback(asked)

    def _origins(self, name: StreamName) -> tuple[str, ...]:
        app = self._context.apps[name.app]
        return () if any(each.stream == name.key for each in app.relays.pull) else tuple(app.relays.origins)

    def _answer(self, name: StreamName, pull: _Pull) -> None:
        """Let those who wait see what there is."""
        del name
        waiting, pull.waiting = pull.waiting, {}
        for each in waiting:
            each.callback(None)

    def _failed(self, name: StreamName, pull: _Pull, failure: RelayFailure) -> None:
        """Every source has failed: where none has the stream, or it is a loop, no one needs to wait for it."""
        if pull.source.on_demand and failure.kind in (FailureKind.ABSENT, FailureKind.LOOP, FailureKind.REFUSED):
            self._context.clock.callLater(0, self._give_up, name, pull)

    def _give_up(self, name: StreamName, pull: _Pull) -> None:
        if self._pulls.get(name) is pull and not pull.relay.is_publishing:
            self._end(name)

    def _end(self, name: StreamName, *, is_final: bool = True) -> None:
        pull = self._pulls.pop(name)
        pull.relay.stop(is_final=is_final)
        if pull.is_elected:
            self._context.resign(_election(name))
        self._answer(name, pull)

    def _look(self) -> None:
        """End the waits that are over, and pulls that no one wants."""
        time_ms = now_ms(self._context.clock)
        for name, pull in list(self._pulls.items()):
            for waiting, until_ms in list(pull.waiting.items()):
                if time_ms >= until_ms and pull.waiting.pop(waiting, None) is not None:
                    waiting.callback(None)
            if not pull.is_elected and time_ms - pull.asked_ms >= ELECT_MS:
                self._elect(name, pull)
            if not pull.source.on_demand:
                continue
            stream = self._context.streams.find(name)
            if pull.waiting or (stream is not None and stream.viewers.count(time_ms)):
                pull.wanted_ms = time_ms
            elif time_ms - pull.wanted_ms >= pull.source.close_after_ms:
                self._end(name)
