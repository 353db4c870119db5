"""Who may publish: authenticators, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Interface

from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.names import StreamName

__all__ = [
    "AuthenticatorContext",
    "IAuthenticator",
    "IAuthenticatorFactory",
    "ITokenIssuer",
    "PublishRequest",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """
    A peer that wants to publish.

    :ivar stream: the name asked for.
    :ivar token: the secret given under any of its usual names (``token``, ``key``, ``auth``, ``pass``), or ``""``.
    :ivar parameters: everything the URL's queries held, the token included.
    :ivar peer: the network address, without the port.
    """

    stream: StreamName
    token: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    peer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    An authenticator's answer.

    :ivar allowed: yes or no.
    :ivar reason: for a refusal: one sentence for the publisher and the log; never a secret.
    :ivar credential: for consent: the same for the same credential, different for another; never the secret itself.
        A connection with the same credential may take over a silent one.
    :ivar expires_ms: when consent ends, in milliseconds since 1970: the publisher then gets the reason and is
        disconnected. ``None`` for never.
    """

    allowed: bool
    reason: str = ""
    credential: str = field(default="", repr=False)
    expires_ms: int | None = None


class IAuthenticator(Interface):
    """Decides who may publish a name."""

    def authorize_publish(request: PublishRequest) -> Verdict | Deferred[Verdict]:
        """
        Decide. A Deferred that fails, or takes longer than the server's limit, refuses the publisher with a neutral
        reason; only that publisher waits.
        """


class ITokenIssuer(Interface):
    """What an authenticator provides besides, if the publish API can ask it for tokens."""

    def issue_token(stream: StreamName, lifetime_s: int) -> str:
        """A new token for publishing ``stream``: URL-safe, at most 128 characters, valid for ``lifetime_s`` seconds."""


@dataclass(frozen=True)
class AuthenticatorContext:
    """
    What an authenticator is given to work with.

    :ivar clock: timers.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar log: logs with the authenticator's name.
    :ivar in_thread: ``in_thread(callable, *args, **kwargs)`` runs a blocking call, a database's for example, in a
        thread that plugins share, and returns a ``Deferred`` of its result.
    """

    clock: IReactorTime
    utc_ms: Callable[[], int]
    log: Logger
    in_thread: InThread = maybeDeferred


class IAuthenticatorFactory(Interface):
    """Makes the one authenticator behind a spec."""

    def create(context: AuthenticatorContext) -> IAuthenticator:
        """Make the authenticator. Raises ``ConfigurationError`` if it can never work."""
