"""
The door at which other nodes come: a UNIX socket on one machine, ``--cluster`` between machines.

Of several workers each has a port of its own: the first one that is free from that of the endpoint on.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint, TCP6ServerEndpoint, quoteStringArgument
from twisted.internet.endpoints import serverFromString as server_from_string
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from rapidrtmp.cluster.addresses import check_address, is_public
from rapidrtmp.cluster.node import NodePlace
from rapidrtmp.cluster.pieces import memory_folder
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server.certificates import TlsDoor
from rapidrtmp.server.own_addresses import find_own_addresses
from rapidrtmp.server.tls_endpoint import TlsEndpoint, is_tls
from rapidrtmp.server.worker import Worker
from rapidrtmp.settings.model import ClusterSettings
from rapidrtmp.settings.spec import parse_spec
from rapidrtmp.support.secret_file import read_secret
from rapidrtmp.support.text import reason_of
from rapidrtmp.support.trust import read_trust

__all__ = ["ClusterDoor", "check_cluster", "make_place"]

#: Below so many characters a secret can be guessed.
SHORT = 16
#: So many ports are tried, where there are several workers.
PORTS = 64


def check_cluster(settings: ClusterSettings, directory: Any) -> None:
    """
    See that a server can be one of several with settings.

    :param directory: the factory of the one that they choose.
    :raises ConfigurationError: it cannot.
    """
    if not settings.endpoint:
        for name in ("address", "secret_file", "ca"):
            if getattr(settings, name):
                raise ConfigurationError(f"cluster.{name} is of no use without cluster.endpoint (--cluster)")
        return
    if not getattr(directory, "is_shared", False):
        raise ConfigurationError("--cluster needs a directory that machines share: --directory redis:HOST:PORT")
    try:
        find_secret(settings)
        _Description.parse(settings.endpoint)
        if is_tls(settings.endpoint):
            TlsEndpoint.parse(settings.endpoint).load()
        if settings.address:
            check_address(settings.address)
        if settings.ca:
            read_trust(settings.ca)
    except ConfigurationError as error:
        raise ConfigurationError(f"--cluster: {error}") from error


def find_secret(settings: ClusterSettings) -> str:
    """What the nodes know each other by. :raises ConfigurationError: there is none, or it can be guessed."""
    if not settings.secret_file:
        raise ConfigurationError("it needs --cluster-secret-file, the same on all machines (openssl rand -hex 32)")
    try:
        secret = read_secret(Path(settings.secret_file)).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the secret file {settings.secret_file}: {reason_of(error)}") from error
    if len(secret) < SHORT:
        raise ConfigurationError(f"the secret file {settings.secret_file} has fewer than {SHORT} characters")
    return secret


class _Description:
    """A ``tcp:``, ``tcp6:`` or ``ssl:`` endpoint string, read."""

    def __init__(self, port: int, interface: str, family: int) -> None:
        self.port, self.interface, self.family = port, interface, family

    @classmethod
    def parse(cls, text: str) -> _Description:
        """Read one. :raises ConfigurationError: it is another."""
        if is_tls(text):
            endpoint = TlsEndpoint.parse(text)
            return cls(endpoint.port, endpoint.interface, socket.AF_INET)
        spec = parse_spec(text)
        said = {**dict(zip(("port",), spec.arguments, strict=False)), **spec.options}
        if spec.name not in ("tcp", "tcp6") or not said.get("port", "").isdigit() or {*said} - {"port", "interface"}:
            raise ConfigurationError(f"{text} is not ssl:PORT:privateKey=…:certKey=… or tcp:PORT:interface=ADDRESS")
        interface = said.get("interface", "")
        if is_public(interface):
            raise ConfigurationError(f"{text} is public: it must be an ssl: endpoint")
        family = socket.AF_INET6 if spec.name == "tcp6" or ":" in interface else socket.AF_INET
        return cls(int(said["port"]), interface, family)


class ClusterDoor:
    """
    The door between machines.

    :param open_certificate: makes what an ``ssl:`` endpoint shows.
    :param tries: how many ports are tried.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, settings: ClusterSettings, open_certificate: Callable[[str], TlsDoor], tries: int = 1
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._description = _Description.parse(settings.endpoint)
        self._door = open_certificate(settings.endpoint) if is_tls(settings.endpoint) else None
        self._tries = tries

    def open(self, site: Any) -> Deferred[tuple[IListeningPort, str]]:
        """Listen; fires with the port, and where others find it. Fails with ``CannotListenError``."""
        return Deferred.fromCoroutine(self._open(site))

    async def _open(self, site: Any) -> tuple[IListeningPort, str]:
        first = self._description.port
        site.is_private = self._door is None
        for number in range(first, first + (self._tries if first else 1)):
            try:
                port: IListeningPort = await self._endpoint(number).listen(site)
            except CannotListenError:
                if number == first + self._tries - 1 or not first:
                    raise
            else:
                break
        host: Any = port.getHost()
        if self._door is not None:
            self._door.port = host.port
        address = self._address(host.port)
        if self._door is None:
            self._log.warn(
                "nodes speak to each other unencrypted at {address}: that network must be private to them, or the "
                "endpoint ssl:",
                address=address,
            )
        self._log.info("other nodes find this one at {address}", address=address)
        return port, address

    def _endpoint(self, number: int) -> Any:
        where = self._description
        if self._door is not None:
            return SSL4ServerEndpoint(self._reactor, number, self._door, interface=where.interface)
        made = TCP6ServerEndpoint if where.family == socket.AF_INET6 else TCP4ServerEndpoint
        return made(self._reactor, number, interface=where.interface)

    def _address(self, port: int) -> str:
        """Where others find it, with the port that it has."""
        scheme, host, said = "http" if self._door is None else "https", self._description.interface, 0
        if self._settings.address:
            scheme, host, said = check_address(self._settings.address)
        elif host in ("", "0.0.0.0", "::"):
            host = next(find_own_addresses(), "127.0.0.1")
        shown = f"[{host}]" if ":" in host else host
        # behind a port that is mapped the port is another; of several workers each needs its own
        return f"{scheme}://{shown}:{said if said and self._tries == 1 else port}"


class _UnixDoor:
    """The door on one machine."""

    def __init__(self, reactor: Any, path: Path) -> None:
        self._reactor = reactor
        self._address = f"unix:{quoteStringArgument(str(path))}"

    def open(self, site: Any) -> Deferred[tuple[IListeningPort, str]]:
        """Listen; fires with the port, and where others find it."""
        listening: Deferred[IListeningPort] = server_from_string(self._reactor, f"{self._address}:mode=600").listen(
            site
        )
        return listening.addCallback(lambda port: (port, self._address))


def make_place(
    reactor: Any, worker: Worker | None, settings: ClusterSettings, open_certificate: Callable[[str], TlsDoor]
) -> NodePlace:
    """
    Where this process is, as one of several.

    :raises ConfigurationError: the secret of the cluster cannot be read.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    folder = memory_folder("rapidrtmp-node-") if worker is None else Path(worker.folder)
    door: Any = _UnixDoor(reactor, folder / f"{name}.sock")
    if settings.endpoint:
        secret = find_secret(settings)
        door = ClusterDoor(reactor, settings, open_certificate, tries=1 if worker is None else PORTS)
    else:
        secret = "own user" if worker is None else worker.read_secret()  # none other can open that folder
    trust = read_trust(settings.ca) if settings.ca else None
    return NodePlace(name, door, secret, folder / name, trust, is_alone=worker is None)
