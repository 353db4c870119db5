"""
Which credentials are good no more, though they have not expired: revoked ones, and those of one session that is over.

A token is known here by its fingerprint, so that any authenticator's can be revoked; all tokens of a stream that were
issued up to a moment are revoked by that moment, where the authenticator tells when they were. The list lies in the
storage and says nothing that a token could be made from. Servers that share the storage read it again every minute;
processes of one server tell each other at once, and which of them has a session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rapidrtmp.errors import MediaError, NotFoundError
from rapidrtmp.interfaces import IStorage
from rapidrtmp.names import StreamName
from rapidrtmp.support.stored_json import MOST_MS, StoredObjectFields

__all__ = ["Revocations", "fingerprint_of"]

#: Where the list lies: no application's name begins with a dot.
KEY = ".access/revoked.json"
REFRESH_S = 60.0
#: How long a credential is remembered whose end is not known; tokens of ours never live as long.
LONGEST_MS = 400 * 86_400_000
#: Of each kind so many are kept, the latest.
MOST = 100_000
MAX_BYTES = 32 << 20


def fingerprint_of(token: str) -> str:
    """What a token is known by; ``""`` for none."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:32] if token else ""


@dataclass(slots=True)
class _Use:
    """
    What is known of a credential for one session.

    :ivar where: the one place that may use it: a stream that is published, a client that plays.
    :ivar sessions: how many there are: two while one takes over from the other.
    :ivar over_ms: when it is spent, unless it is used before; ``None`` while it is in use.
    :ivar until_ms: when it need not be remembered any more.
    :ivar reconnect_ms: how long after the end of the session it may be resumed.
    :ivar source: another process that has the session; ``""`` where this one has, or none.
    """

    where: str
    sessions: int
    over_ms: int | None
    until_ms: int
    reconnect_ms: int
    source: str = ""


class Revocations:
    """
    Keeps the list.

    :param utc_ms: the time of day in milliseconds since 1970.
    :param find_storage: where the list lies; ``None`` for nowhere.
    :ivar version: rises whenever something was revoked.
    :ivar changed: called with the fingerprints of which something has changed, and the names of streams likewise.
    """

    _log = Logger()

    def __init__(
        self,
        utc_ms: Callable[[], int],
        find_storage: Callable[[], IStorage | None] = lambda: None,
    ) -> None:
        self._utc_ms = utc_ms
        self._find_storage = find_storage
        self._tokens: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self._uses: dict[str, _Use] = {}
        self._lock = DeferredLock()
        self._refreshing: Any = None
        self._changes = self._stored = 0
        self._continued: set[str] = set()
        self.version = 0
        self.changed: Callable[[Iterable[str]], object] = lambda _changed: None

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def refusal(self, stream: StreamName, fingerprint: str, issued_ms: int | None) -> str:
        """Why a credential that was good is good no more; ``""`` if it still is."""
        if fingerprint in self._tokens:
            return "the token has been revoked"
        if issued_ms is not None and issued_ms <= self._streams.get(str(stream), -1):
            return "the token has been revoked"
        return ""

    def session_refusal(self, fingerprint: str, where: str) -> str:
        """
        Why a credential for one session cannot be used; ``""`` if it can.

        :param where: the one place that may use it: a stream that is published, a client that plays.
        """
        use = self._uses.get(fingerprint)
        if use is None:
            return ""
        if use.over_ms is not None and self._utc_ms() > use.over_ms:
            return "the token is for one session, which is over: ask for a new one"
        return "" if use.where == where else "the token is for one session, and in use elsewhere"

    def begin_session(self, fingerprint: str, where: str, reconnect_s: int, expires_ms: int | None) -> None:
        """Begin or resume the session of a credential that may be used."""
        use = self._uses.get(fingerprint)
        if use is None:
            until_ms = self._utc_ms() + LONGEST_MS if expires_ms is None else expires_ms
            use = self._uses[fingerprint] = _Use(where, 0, None, until_ms, reconnect_s * 1000)
            self._save_later()
        is_resumed = use.over_ms is not None or not use.sessions
        use.sessions += 1
        use.over_ms = None
        use.source = ""
        if is_resumed:
            self.changed([fingerprint])

    def end_session(self, fingerprint: str) -> None:
        """The session of a credential is over: it may be resumed for the time that it allows."""
        use = self._uses.get(fingerprint)
        if use is not None:
            use.sessions = max(0, use.sessions - 1)
            if not use.sessions:
                use.over_ms = self._utc_ms() + use.reconnect_ms
                self._save_later()
                self.changed([fingerprint])

    def continue_session(self, fingerprint: str, where: str, reconnect_s: int, expires_ms: int | None) -> str:
        """Begin or resume a session that ends when this is not called any more; see :meth:`session_refusal`."""
        reason = self.session_refusal(fingerprint, where)
        if not reason:
            use = self._uses.get(fingerprint)
            if use is None or use.source:
                self.begin_session(fingerprint, where, reconnect_s, expires_ms)
                use = self._uses[fingerprint]
            use.sessions = 0
            use.over_ms = self._utc_ms() + use.reconnect_ms
            self._continued.add(fingerprint)
        return reason

    # ── other processes ──────────────────────────────────────────────────────────────────────────────────────────────

    def describe(self, changed: Set[str] | None = None) -> dict[str, Any]:
        """
        What other processes are to know, as JSON has it.

        :param changed: of these fingerprints and streams; of all if left out.
        """
        return {
            name: {key: value for key, value in of.items() if changed is None or key in changed}
            for name, of in (("tokens", self._tokens), ("streams", self._streams), ("uses", self._described_uses()))
        }

    def take_continued(self) -> dict[str, Any]:
        """The uses of which the session was continued since this was asked last."""
        continued, self._continued = self._continued, set()
        uses: dict[str, Any] = self.describe(continued)["uses"] if continued else {}
        return uses

    def learn(self, source: str, said: Mapping[str, Any]) -> Set[str]:
        """
        Take over what another process that lives says.

        :returns: the fingerprints among what it says whose sessions are here.
        :raises ValueError: it makes no sense; so for ``TypeError``, ``KeyError`` and ``AttributeError``.
        """
        before = len(self._tokens), sum(self._streams.values())
        for fingerprint, until_ms in said.get("tokens", {}).items():
            self._tokens.setdefault(str(fingerprint), int(until_ms))
        for stream, at_ms in said.get("streams", {}).items():
            self._streams[str(stream)] = max(int(at_ms), self._streams.get(str(stream), 0))
        for fingerprint, use in said.get("uses", {}).items():
            self._learn_use(source, str(fingerprint), use)
        if before != (len(self._tokens), sum(self._streams.values())):
            self.version += 1
        return {each for each in said.get("uses", {}) if each in self._uses and self._uses[each].sessions}

    def _learn_use(self, source: str, fingerprint: str, said: Mapping[str, Any]) -> None:
        known = self._uses.get(fingerprint)
        if known is not None and (known.sessions or known.where != said["where"]):
            return
        over_ms = int(said["overMs"]) or None
        if known is not None and known.over_ms is not None and over_ms is not None:
            over_ms = max(over_ms, known.over_ms)
        until_ms, reconnect_ms = int(said["untilMs"]), int(said["reconnectMs"])
        self._uses[fingerprint] = _Use(str(said["where"]), 0, over_ms, until_ms, reconnect_ms, source)

    @property
    def sources(self) -> Set[str]:
        """The processes that have sessions."""
        return {use.source for use in self._uses.values() if use.source}

    def lose(self, source: str) -> None:
        """Learn that a process is no more: its sessions are over, and may be resumed."""
        for use in self._uses.values():
            if use.source == source:
                use.source = ""
                if use.over_ms is None:
                    use.over_ms = self._utc_ms() + use.reconnect_ms

    # ── revoking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def revoke_token(self, fingerprint: str, until_ms: int | None = None) -> Deferred[None]:
        """
        Revoke one credential, at once.

        :param until_ms: when it would have expired.
        :returns: fires when that is stored; fails with ``StorageError`` when it could not be, and holds until the end
            of this process only.
        """
        latest_ms = self._utc_ms() + LONGEST_MS
        self._tokens[fingerprint] = latest_ms if until_ms is None else min(until_ms, latest_ms)
        return self._revoked(fingerprint)

    def revoke_stream(self, stream: StreamName) -> Deferred[None]:
        """Revoke all credentials for a stream that were issued up to now; see :meth:`revoke_token`."""
        self._streams[str(stream)] = max(self._utc_ms(), self._streams.get(str(stream), 0))
        return self._revoked(str(stream))

    def _revoked(self, what: str) -> Deferred[None]:
        self.version += 1
        self.changed([what])
        return self._save()

    # ── what is stored ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, clock: IReactorTime) -> Deferred[None]:
        """
        Read the list, and again from time to time.

        :returns: fires when it was read for the first time, or that failed.
        """
        self._refreshing = LoopingCall(self._refresh)
        self._refreshing.clock = clock
        self._refreshing.start(REFRESH_S, now=False)
        return self._refresh()

    def stop(self) -> None:
        """Read it no more."""
        if self._refreshing is not None and self._refreshing.running:
            self._refreshing.stop()

    def _refresh(self) -> Deferred[None]:
        storage = self._find_storage()
        if storage is None:
            return Deferred.fromCoroutine(_nothing())
        reading: Deferred[None] = self._lock.run(lambda: Deferred.fromCoroutine(self._read(storage)))
        return reading.addErrback(
            lambda failure: self._log.error("the list of revoked tokens: {error}", error=failure.value)
        )

    def _save_later(self) -> None:
        self._save().addErrback(
            lambda failure: self._log.error("the list of revoked tokens: {error}", error=failure.value)
        )

    def _save(self) -> Deferred[None]:
        self._changes += 1
        storage = self._find_storage()
        if storage is None:
            return Deferred.fromCoroutine(_nothing())
        change = self._changes
        saved: Deferred[None] = self._lock.run(lambda: Deferred.fromCoroutine(self._store(storage, change)))
        return saved

    async def _store(self, storage: IStorage, change: int) -> None:
        """Store all that is known, with what other servers have added, unless a later change was stored meanwhile."""
        if self._stored >= change:
            return
        await self._read(storage)
        newest, body = self._changes, self._render()
        await storage.put(KEY, body, "application/json", "no-store")
        self._stored = newest

    async def _read(self, storage: IStorage) -> None:
        """Take over what is stored. :raises StorageError: that cannot be read now."""
        try:
            stored = await storage.get(KEY)
            body = b""
            async for chunk in stored.chunks:
                body += chunk
                if len(body) > MAX_BYTES:
                    raise MediaError(f"longer than {MAX_BYTES} bytes")
            self._merge(StoredObjectFields(body))
        except NotFoundError:
            pass
        except MediaError as error:
            self._log.error("{key} in the storage is damaged and not gone by: {error}", key=KEY, error=error)
        self._forget()

    def _merge(self, fields: StoredObjectFields) -> None:
        tokens, streams, uses = (StoredObjectFields.of(fields.value(name)) for name in ("tokens", "streams", "uses"))
        before = len(self._tokens), sum(self._streams.values())
        for fingerprint in tokens:
            self._tokens.setdefault(fingerprint, tokens.whole(fingerprint, most=MOST_MS))
        for stream in streams:
            self._streams[stream] = max(streams.whole(stream, most=MOST_MS), self._streams.get(stream, 0))
        now_ms = self._utc_ms()
        for fingerprint in uses:
            if fingerprint in self._uses:
                continue
            use = StoredObjectFields.of(uses.value(fingerprint))
            over_ms, until_ms, reconnect_ms = (
                use.whole(name, most=MOST_MS) for name in ("overMs", "untilMs", "reconnectMs")
            )
            over_ms = over_ms or now_ms + reconnect_ms  # its server has ended, and its session with that
            self._uses[fingerprint] = _Use(use.text("where", 400), 0, over_ms, until_ms, reconnect_ms)
        if before != (len(self._tokens), sum(self._streams.values())):
            self.version += 1

    def _forget(self) -> None:
        """Forget what has expired by itself, and what would be too much."""
        now_ms = self._utc_ms()
        self._tokens = _latest({each: until_ms for each, until_ms in self._tokens.items() if until_ms > now_ms})
        self._streams = _latest({each: at_ms for each, at_ms in self._streams.items() if at_ms > now_ms - LONGEST_MS})
        self._uses = _latest({each: use for each, use in self._uses.items() if use.until_ms > now_ms or use.sessions})

    def _described_uses(self) -> dict[str, dict[str, object]]:
        return {
            fingerprint: {
                "where": use.where,
                "overMs": use.over_ms or 0,
                "untilMs": use.until_ms,
                "reconnectMs": use.reconnect_ms,
            }
            for fingerprint, use in self._uses.items()
        }

    def _render(self) -> bytes:
        uses = self._described_uses()
        return json.dumps({"tokens": self._tokens, "streams": self._streams, "uses": uses}).encode()


def _latest(entries: dict[str, Any]) -> dict[str, Any]:
    return dict(list(entries.items())[-MOST:])


async def _nothing() -> None:
    """Be done."""
