"""
The management API as the tools use it: where a server of this machine is found, and what it is asked with.

A server is where the settings put it: the same file and environment that it was started with lead to its door and to
its secret. A server on this machine is first asked without the secret, which is all that its own user needs. One at
another place is only sent a secret that was given for it, never one that lies in the current folder by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from OpenSSL.SSL import Connection
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import react
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError, RapidRTMPError
from rapidrtmp.settings.sources import DEFAULT, Loaded
from rapidrtmp.settings.spec import parse_spec
from rapidrtmp.support.secret import reveal

__all__ = ["ManagementError", "Target", "ask", "check_url", "find_secret", "find_targets"]

TIMEOUT_S = 10
_EVERYWHERE = ("", "0.0.0.0", "::")


class ManagementError(RapidRTMPError):
    """No server answers, or it refuses what was asked."""


@dataclass(frozen=True)
class Target:
    """
    One door where the management API may be.

    :ivar root: the URL, without a slash at the end.
    :ivar socket: the path of the UNIX socket that it is to be asked at; empty for the host of the URL.
    """

    root: str
    socket: str = ""

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.root

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        host = urlsplit(self.root).hostname or ""
        try:
            return bool(self.socket) or host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False


def find_targets(loaded: Loaded) -> Sequence[Target]:
    """The doors that a server with these settings has, those of the management API alone if it has such."""
    server = loaded.settings.server
    targets = [_target(description) for description in server.manage or server.http]
    return [target for target in targets if target is not None]


def _target(description: str) -> Target | None:
    spec = parse_spec(description)
    address = spec.arguments[0] if spec.arguments else spec.options.get("port") or spec.options.get("address", "")
    if spec.name == "unix":
        return Target("http://localhost", address)
    if spec.name not in ("tcp", "tcp6", "ssl") or address in ("", "0"):
        return None
    host = spec.options.get("interface", "")
    host = "localhost" if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    return Target(f"{'https' if spec.name == 'ssl' else 'http'}://{host}:{address}")


def find_secret(loaded: Loaded, target: Target, folders: Iterable[Path]) -> str:
    """
    The secret for a server with these settings; empty if there is none to be had.

    :param folders: where a relative path may begin.
    """
    server = loaded.settings.server
    if server.api_token:
        return reveal(server.api_token)
    if loaded.provenance["server.api_token_file"] == DEFAULT and not target.is_local:
        return ""
    for folder in folders:
        try:
            return (folder / server.api_token_file).read_text("utf-8").strip()
        except (OSError, ValueError):
            continue
    return ""


def ask(
    targets: Sequence[Target], loaded: Loaded, folders: Sequence[Path], path: str, value: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Post to the management API of the first server that answers. Runs the reactor, and so can run once in a process.

    :param value: becomes the body, in JSON.
    :raises ManagementError: no server answers, or it refuses; the message is for the person who asks.
    """
    outcome: list[dict[str, Any] | Failure] = []

    def start(reactor: Any) -> Deferred[None]:
        asking = Deferred.fromCoroutine(_ask_first(reactor, targets, loaded, folders, path, value))
        return asking.addBoth(outcome.append)

    try:
        react(start)
    except SystemExit:  # that is how the reactor's run ends
        pass
    if not outcome:
        raise ManagementError("interrupted")
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    assert isinstance(outcome[0], dict)
    return outcome[0]


async def _ask_first(
    reactor: Any,
    targets: Sequence[Target],
    loaded: Loaded,
    folders: Sequence[Path],
    path: str,
    value: Mapping[str, Any],
) -> dict[str, Any]:
    for target in targets:
        secret = find_secret(loaded, target, folders)
        try:
            status, answer = await _post(reactor, target, path, value, "" if target.is_local else secret)
            if status == 401 and secret and target.is_local:
                status, answer = await _post(reactor, target, path, value, secret)
        except ConnectError:
            continue
        except Exception as error:
            raise ManagementError(f"{target}: {' '.join(str(error).split()) or type(error).__name__}") from error
        if status == 200:
            return answer
        if status == 401 and not secret:
            raise ManagementError(
                f"{target} wants the management secret: run this as the user that the server runs as, or give "
                "--api-token-file with a copy of its data/api.key"
            )
        raise ManagementError(f"{target} answers {status}: {answer.get('error', 'nothing that could be read')}")
    tried = ", ".join(map(str, targets)) or "none of the endpoints"
    raise ManagementError(f"no server answers ({tried}): is it running? --server URL or --config FILE say where")


async def _post(
    reactor: Any, target: Target, path: str, value: Mapping[str, Any], secret: str
) -> tuple[int, dict[str, Any]]:
    """
    One request.

    :returns: the status, and the object in the answer; empty if that is none.
    :raises Exception: what the connection fails with; ``ConnectError`` if nothing listens there.
    """
    headers = Headers({"Authorization": [f"Bearer {secret}"]} if secret else {})
    client = HTTPClient(_agent(reactor, target))
    response = await client.post(target.root + path, json=dict(value), headers=headers, timeout=TIMEOUT_S)
    try:
        answer = await response.json()
    except ValueError:
        answer = {}
    return response.code, answer if isinstance(answer, dict) else {}


# ── doors that no URL leads to ───────────────────────────────────────────────────────────────────────────────────────


def _agent(reactor: Any, target: Target) -> Any:
    if target.socket:
        return Agent.usingEndpointFactory(reactor, _SocketEndpoints(reactor, target.socket))
    # The certificate is for the name that the world knows, and the secret goes no further than this machine.
    policy = _AnyCertificate() if target.is_local else BrowserLikePolicyForHTTPS()
    return Agent(reactor, policy, connectTimeout=TIMEOUT_S)


@implementer(IAgentEndpointFactory)
class _SocketEndpoints:
    """Leads to one UNIX socket, whatever the URL."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, _uri: Any) -> UNIXClientEndpoint:
        """Where to connect."""
        return UNIXClientEndpoint(self._reactor, self._path)


@implementer(IPolicyForHTTPS)
class _AnyCertificate:
    """TLS with a server of this machine."""

    def creatorForNetloc(self, _hostname: bytes, _port: int) -> _AnyConnection:
        """How to connect."""
        return _AnyConnection()


@implementer(IOpenSSLClientConnectionCreator)
class _AnyConnection:
    def clientConnectionForTLS(self, _tls_protocol: Any) -> Connection:
        """A connection that checks no certificate."""
        return Connection(CertificateOptions().getContext(), None)


def check_url(text: str) -> Target:
    """The server at a URL, or ``HOST:PORT``, that was given. :raises ConfigurationError: it is none."""
    text = text if "://" in text else f"http://{text}"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(f"{text} is not the URL of a server, such as http://localhost:8080")
    return Target(text.rstrip("/"))
