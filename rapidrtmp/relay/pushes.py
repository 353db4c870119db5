"""All push relays: those of the settings, and those that were added by the API; each a sink of its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.interfaces import (
    BadRequestError,
    ConflictError,
    ContributionContext,
    Event,
    EventType,
    IEventListener,
    ISinkFactory,
    Purpose,
    PushTarget,
    RecordEvent,
    SinkContext,
    UnavailableError,
    no_event,
)
from rapidrtmp.names import StreamName
from rapidrtmp.relay.kept import KeptRelay, change_relays, read_relays
from rapidrtmp.relay.push import PushParts, PushSink
from rapidrtmp.relay.report import RelayMetrics, RelayStatus
from rapidrtmp.relay.rung import RungPush
from rapidrtmp.rtmp.remote import STREAM, BadAddressError, mask_key, mask_url, parse_address
from rapidrtmp.support.secret import Secret, reveal

__all__ = ["PushRelay", "PushRelays"]

#: Relays that may be added to one stream, and in all.
MOST_PER_STREAM, MOST = 16, 1_000
SINK = "relay"


@implementer(ISinkFactory)
class PushRelay:
    """
    One relay of one stream.

    :ivar target: where it leads.
    :ivar status: how it does.
    :ivar is_configured: whether the settings have it; else the API has added it.
    """

    def __init__(
        self, target: PushTarget, status: RelayStatus, parts: PushParts, *, is_configured: bool, owner: PushRelays
    ) -> None:
        self.target = target
        self.status = status
        self.is_configured = is_configured
        self._parts = parts
        self._owner = owner

    def create(self, context: SinkContext) -> PushSink | RungPush:
        """See :meth:`ISinkFactory.create <rapidrtmp.interfaces.ISinkFactory.create>`."""
        push = PushSink(self.target, self.status, context, self._parts, partial(self._owner.ended, self))
        rendition = self.target.rendition
        return RungPush(rendition, push, self.status) if rendition else push

    def describe(self) -> dict[str, Any]:
        """As the API shows it: of the key no more than its end."""
        target = self.target
        has_key = bool(target.key or target.key_file or target.key_env)
        said: dict[str, Any] = {
            "url": mask_url(target.url, has_key=not has_key),
            "key": mask_key(target.key) if target.key or has_key else mask_key(target.url.rpartition("/")[2]),
        }
        optional = {"rendition": target.rendition, "ca": target.ca}
        said["isConfigured"] = self.is_configured
        return {**said, **self.status.describe(), **{name: value or None for name, value in optional.items()}}


@implementer(IEventListener)
class PushRelays(Service):
    """
    Attaches relays to streams that begin.

    :param path: where those that the API adds are kept, if the storage is persistent.
    :param is_pulled: whether a stream comes from another server.
    """

    _log = Logger()

    def __init__(
        self,
        context: ContributionContext,
        parts: PushParts,
        metrics: RelayMetrics,
        path: Path,
        is_pulled: Callable[[StreamName], bool] = lambda _name: False,
    ) -> None:
        self._is_pulled = is_pulled
        self._context = context
        self._parts = parts
        self._metrics = metrics
        self._path = path
        self._writing = DeferredLock()
        self._read_stamp = (0, 0)  # of the file, when it was read last
        self._unwritten: set[str] = set()  # ids of which the file does not know yet
        self._added: dict[StreamName, dict[str, PushRelay]] = {}
        self._configured: dict[StreamName, list[PushRelay]] = {}  # of streams that are live
        self._live: set[StreamName] = set()

    # ── as a service, and what it hears ──────────────────────────────────────────────────────────────────────────────

    def startService(self) -> None:
        """Have those that were added before."""
        super().startService()  # type: ignore[no-untyped-call]
        self._refresh()

    def _refresh(self) -> None:
        """Learn what other processes, or earlier ones, have added and removed."""
        if not self._is_kept:
            return
        try:
            status = self._path.stat() if self._path.exists() else None
            stamp = (status.st_ino, status.st_mtime_ns) if status is not None else (0, 0)
            if stamp == self._read_stamp:
                return
            self._read_stamp = stamp
            kept = {each.id: each for each in read_relays(self._path)}
        except (OSError, ValueError) as error:
            self._log.error("{path}: cannot read the relays that were added: {error}", path=self._path, error=error)
            return
        known = {id: name for name, added in self._added.items() for id in added}
        for id, name in known.items():
            if id not in kept and id not in self._unwritten:
                self._let_go(name, id)
        for id, each in kept.items():
            if id not in known and id not in self._unwritten:
                self._added.setdefault(each.stream, {})[id] = self._make(id, each.stream, each.target)

    def _let_go(self, name: StreamName, id: str) -> None:
        relay = self._added[name][id]
        self._forget(name, id)
        self._detach(name, relay)

    @property
    def _is_kept(self) -> bool:
        return self._context.is_persistent(Purpose.LIVE)

    def event_recorded(self, event: Event) -> None:
        """See :meth:`IEventListener.event_recorded <rapidrtmp.interfaces.IEventListener.event_recorded>`."""
        if event.type is EventType.PUBLISH and event.stream is not None:
            self._live.add(event.stream)
            self._refresh()
            self._attach(event.stream)

    def follow(self) -> None:
        """Follow other settings: relays that are gone end, those that come begin."""
        for name in list(self._live):
            wanted = self._targets(name)
            stream = self._context.streams.find(name)
            for relay in list(self._configured.get(name, ())):
                if relay.target not in wanted and stream is not None:
                    self._detach(name, relay)
            self._attach(name)

    def _targets(self, name: StreamName) -> Sequence[PushTarget]:
        app = self._context.apps.get(name.app)
        if app is None:
            return []
        targets = [each for each in app.relays.push if fnmatchcase(name.key, each.streams)]
        if app.relays.origins and not self._is_pulled(name):  # it is published at an edge: the origins have it for all
            first, *others = app.relays.origins
            targets.append(PushTarget(first, Secret(STREAM), others=tuple(others)))
        return targets

    # ── attaching ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _attach(self, name: StreamName) -> None:
        """Give a stream every relay that it has not got."""
        stream = self._context.streams.find(name)
        if stream is None or stream.has_ended:
            self._live.discard(name)
            return
        configured = self._configured.setdefault(name, [])
        for target in self._targets(name):
            if all(relay.target != target for relay in configured):
                configured.append(self._make(self._new_id(name), name, target, is_configured=True))
        attached = list(stream.sinks.values())
        for relay in (*configured, *self._added.get(name, {}).values()):
            if relay in attached:
                continue
            taken = stream.sinks
            names = (SINK if number == 1 else f"{SINK}-{number}" for number in count(1))
            try:
                stream.start_sink(next(each for each in names if each not in taken), relay)
            except Exception:
                self._log.failure("{stream}: relay {relay} cannot be made", stream=name, relay=relay.status.id)

    def _new_id(self, name: StreamName) -> str:
        taken = {relay.status.id for relay in self._configured.get(name, ())}
        return next(id for id in (f"push-{number}" for number in count(1)) if id not in taken)

    def _detach(self, name: StreamName, relay: PushRelay) -> None:
        stream = self._context.streams.find(name)
        if stream is not None:
            for sink, factory in list(stream.sinks.items()):
                if factory is relay:
                    stream.detach(sink)

    def ended(self, relay: PushRelay) -> None:
        """Forget a relay of the settings whose stream, or which itself, has ended."""
        name = relay.status.stream
        configured = self._configured.get(name, [])
        if relay in configured:
            configured.remove(relay)
        if not configured:
            self._configured.pop(name, None)

    def _make(self, id: str, name: StreamName, target: PushTarget, *, is_configured: bool = False) -> PushRelay:
        record: RecordEvent = self._context.events.record if self._context.events is not None else no_event
        status = RelayStatus(
            id,
            "push",
            name,
            _shown(target, name),
            clock=self._context.clock,
            utc_ms=self._context.utc_ms,
            record=record,
            metrics=self._metrics,
        )
        return PushRelay(target, status, self._parts, is_configured=is_configured, owner=self)

    # ── what the API does ────────────────────────────────────────────────────────────────────────────────────────────

    def of(self, name: StreamName) -> Sequence[PushRelay]:
        """Every relay of a stream, be it live or not."""
        self._refresh()
        configured = self._configured.get(name)
        if configured is None:
            targets = enumerate(self._targets(name), 1)
            configured = [self._make(f"push-{number}", name, target, is_configured=True) for number, target in targets]
        return [*configured, *self._added.get(name, {}).values()]

    def statuses(self) -> Iterator[RelayStatus]:
        """Those of all relays there are."""
        for relays in (*self._configured.values(), *(added.values() for added in self._added.values())):
            yield from (relay.status for relay in relays)

    async def add(self, name: StreamName, target: PushTarget) -> PushRelay:
        """
        Add a relay, and keep it.

        :raises BadRequestError: it leads nowhere.
        :raises ConflictError: there is one like it, or there are too many.
        :raises UnavailableError: it cannot be kept.
        """
        try:
            parse_address(target.url, target.key, name.key)
        except BadAddressError as error:
            raise BadRequestError(f"url: {error}") from error
        of_stream = self._added.get(name, {})
        if any(relay.target == target for relay in self.of(name)):
            raise ConflictError(f"{name} has this relay already")
        total = sum(map(len, self._added.values()))
        if len(of_stream) >= MOST_PER_STREAM or total >= MOST:
            raise ConflictError(f"{MOST_PER_STREAM} relays may be added to a stream, and {MOST} in all")
        id = token_hex(4)
        relay = self._make(id, name, target)
        self._added.setdefault(name, {})[id] = relay
        try:
            await self._keep(id, add=KeptRelay(id, name, target))
        except (OSError, ValueError) as error:
            self._forget(name, id)
            raise UnavailableError("the relay cannot be kept: its file cannot be written", 10) from error
        self._live.add(name)
        self._attach(name)
        return relay

    async def remove(self, name: StreamName, id: str) -> bool:
        """
        Remove a relay that was added; it ends as if its stream did.

        :returns: whether there was one.
        :raises ConflictError: the settings have it.
        """
        relay = next((each for each in self.of(name) if each.status.id == id), None)
        if relay is None:
            return False
        if relay.is_configured:
            raise ConflictError(f"the settings of the application {name.app} have this relay: it is removed there")
        self._forget(name, id)
        self._detach(name, relay)
        try:
            await self._keep(id, remove=id)
        except (OSError, ValueError) as error:
            raise UnavailableError("the relay has ended, but its file cannot be written", 10) from error
        return True

    def _forget(self, name: StreamName, id: str) -> None:
        of_stream = self._added.get(name, {})
        of_stream.pop(id, None)
        if not of_stream:
            self._added.pop(name, None)

    async def _keep(self, id: str, **change: Any) -> None:
        """Change the file; several at a time do so one after the other."""
        if not self._is_kept:
            return
        self._unwritten.add(id)
        try:
            await self._writing.run(self._context.in_thread, change_relays, self._path, **change)
        finally:
            self._unwritten.discard(id)


def _shown(target: PushTarget, name: StreamName) -> str:
    """Where a relay leads, for logs and events."""
    try:
        return parse_address(
            target.url, reveal(target.key) or ("k" if target.key_file or target.key_env else ""), name.key
        ).shown
    except BadAddressError:
        return mask_url(target.url, has_key=False)
