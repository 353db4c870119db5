"""
The certificates of encrypted doors: read at the start, and again when their files change or a reload is asked for.

A connection keeps the certificate that it began with, and those that come get what was read last. A pair that cannot be
used changes nothing: the door keeps the one that it has, and the log says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server.tls_endpoint import TlsEndpoint, user_name

__all__ = ["Certificates", "Renewal", "TlsDoor"]

#: How often files are looked at. A change is followed when it has been seen twice alike: then it is whole.
LOOK_EVERY_S = 5.0
#: How long before its end a certificate is warned of, and how often.
WARN_BEFORE_S, WARN_EVERY_S = 14 * 86_400, 86_400


@dataclass(frozen=True)
class Renewal:
    """
    What became of a door's certificate when its files were read again.

    :ivar door: which: ``rtmp``, ``http`` or ``manage``.
    :ivar file: of the certificate.
    :ivar changed: whether it is another than before.
    :ivar expires_s: when the one in force ends, in seconds since 1970.
    :ivar error: why the files could not be used, and the door keeps what it had; empty if they could.
    """

    door: str
    port: int
    file: Path
    changed: bool
    expires_s: float
    error: str = ""


@implementer(IOpenSSLServerConnectionCreator)
class TlsDoor:
    """
    A port that speaks TLS, with the certificate that it shows at present.

    :ivar name: whose port it is: ``rtmp``, ``http`` or ``manage``.
    :ivar port: its number, once it is open.
    :raises ConfigurationError: as :meth:`TlsEndpoint.parse` and :meth:`TlsEndpoint.load`.
    """

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.endpoint = TlsEndpoint.parse(description)
        self.port = self.endpoint.port
        self._state = self._seen = self.endpoint.state()
        self._loaded = self.endpoint.load()

    @property
    def expires_s(self) -> float:
        """When the certificate ends, in seconds since 1970."""
        return self._loaded.expires_s

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002 - its signature
        """Begin a connection with the certificate as it is now; Twisted adds what its factory says of ALPN."""
        return SSL.Connection(self._loaded.context, None)

    def is_due(self) -> bool:
        """Whether the files differ from what was read last, and have been so for two looks: the writer is done."""
        state = self.endpoint.state()
        is_still, self._seen = state == self._seen, state
        return is_still and state != self._state

    def renew(self) -> Renewal:
        """Read the files again, and use them from now on if they can be used."""
        self._state = self._seen = self.endpoint.state()
        changed, error = False, ""
        try:
            loaded = self.endpoint.load()
        except ConfigurationError as reason:
            error = str(reason)
        else:
            changed = loaded.digest != self._loaded.digest
            self._loaded = loaded if changed else self._loaded
        return Renewal(self.name, self.port, self.endpoint.certificate, changed, self.expires_s, error)


class Certificates:
    """
    Those of all encrypted doors of a server.

    :param clock: provides time for looking at the files.
    :param utc_ms: the time of day, in milliseconds since 1970.
    :param counter: counts what became of files that were read again, by result.
    """

    _log = Logger()

    def __init__(self, clock: Any, utc_ms: Callable[[], int], counter: Counter) -> None:
        self._utc_ms = utc_ms
        self._counter = counter
        self._doors: list[TlsDoor] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._warned: dict[tuple[Path, float], float] = {}

    def open(self, name: str, description: str) -> TlsDoor:
        """
        Take charge of a door.

        :param description: its endpoint string.
        :raises ConfigurationError: it is not usable.
        """
        door = TlsDoor(name, description)
        self._doors.append(door)
        return door

    @property
    def descriptions(self) -> frozenset[str]:
        """The endpoint strings of the doors: their files need no check, they are in use."""
        return frozenset(door.description for door in self._doors)

    def start(self) -> None:
        """Watch the files, as the user that the server runs as by now."""
        if not self._doors:
            return
        unreadable = sorted({str(file) for door in self._doors for file in door.endpoint.files if not _readable(file)})
        if unreadable:
            self._log.warn(
                "{files}: not readable for {user}, so a renewed certificate will need a restart of the server",
                files=", ".join(unreadable),
                user=user_name(),
            )
        self._warn()
        self._looking.start(LOOK_EVERY_S, now=False)

    def stop(self) -> None:
        """Watch no more."""
        if self._looking.running:
            self._looking.stop()

    def reload(self) -> Sequence[Renewal]:
        """Read the files of all doors again; one line in the log for each pair that changed or cannot be used."""
        return self._renew(self._doors)

    def metrics(self) -> Iterator[Metric]:
        """When the certificate of each door ends."""
        family = GaugeMetricFamily(
            "rapidrtmp_certificate_expiry_timestamp_seconds",
            "When the certificate of an encrypted door ends, in seconds since 1970",
            labels=["door", "port"],
        )
        for door in self._doors:
            family.add_metric([door.name, str(door.port)], door.expires_s)
        yield family

    def _look(self) -> None:
        self._renew([door for door in self._doors if door.is_due()])
        self._warn()

    def _renew(self, doors: Iterable[TlsDoor]) -> Sequence[Renewal]:
        renewals = [door.renew() for door in doors]
        lines: dict[tuple[Path, str], list[Renewal]] = {}
        for renewal in renewals:
            result = "refused" if renewal.error else "renewed" if renewal.changed else "unchanged"
            self._counter.labels(result).inc()
            lines.setdefault((renewal.file, renewal.error or result), []).append(renewal)
        for same in lines.values():
            self._say(same)
        return renewals

    def _say(self, renewals: Sequence[Renewal]) -> None:
        """Log what is the same for several doors."""
        first, doors = renewals[0], ", ".join(f"{each.door} at port {each.port}" for each in renewals)
        if first.error:
            self._log.error(
                "{doors}: the certificate is not renewed, the old one stays: {error}", doors=doors, error=first.error
            )
        elif first.changed:
            self._log.info(
                "{doors}: new connections get the new certificate in {file}, valid until {until}",
                doors=doors,
                file=first.file,
                until=_day(first.expires_s),
            )

    def _warn(self) -> None:
        """Log which certificates end soon, each once a day."""
        now_s = self._utc_ms() / 1000
        ending = {(door.endpoint.certificate, door.expires_s) for door in self._doors}
        self._warned = {which: said_s for which, said_s in self._warned.items() if which in ending}
        for which in sorted(ending):
            file, expires_s = which
            said_s = self._warned.get(which, float("-inf"))
            if expires_s - now_s < WARN_BEFORE_S and now_s - said_s >= WARN_EVERY_S:
                self._warned[which] = now_s
                self._log.warn(
                    "the certificate in {file} {ends} on {day} ({days} days from now)",
                    file=file,
                    ends="ends" if expires_s > now_s else "has ended",
                    day=_day(expires_s),
                    days=int((expires_s - now_s) // 86_400),
                )


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
