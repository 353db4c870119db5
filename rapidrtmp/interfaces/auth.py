"""Who may publish, who may watch and who may manage: authenticators, and what they are asked."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Interface

from rapidrtmp.interfaces.storage import InThread
from rapidrtmp.names import StreamName

__all__ = [
    "Action",
    "AuthenticatorContext",
    "IAuthenticator",
    "IAuthenticatorFactory",
    "IManageAuthenticator",
    "IManageAuthenticatorFactory",
    "IPlayAuthenticator",
    "ITokenIssuer",
    "ManageRequest",
    "PlayRequest",
    "PublishRequest",
    "TokenTerms",
    "Verdict",
]


class Action(enum.StrEnum):
    """What a credential permits."""

    PUBLISH = "publish"
    PLAY = "play"


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """
    A peer that wants to publish.

    :ivar stream: what it is called.
    :ivar token: the secret given under any of its usual names (``token``, ``key``, ``auth``, ``pass``), or ``""``.
    :ivar parameters: everything the URL's queries held, the token included.
    :ivar peer: the network address, without the port.
    :ivar client_id: the connection, by a name that no other has.
    :ivar said: what the client said of itself when it connected, as far as that is text: ``flashVer``, ``tcUrl``, ….
    :ivar key: the stream key that was asked for, where that is another than the stream is called by: a secret.
    """

    stream: StreamName
    token: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    peer: str
    client_id: str = ""
    said: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlayRequest:
    """
    A client that wants to watch.

    :ivar stream: what it asked for.
    :ivar token: the secret that it shows, or ``""``; ``NAME:PASSWORD`` of one that authenticates so (RFC 7617).
    :ivar peer: its address, behind the proxies that are trusted.
    :ivar agent: how it calls its software, or ``""``.
    :ivar query: of the URL, still percent-encoded, without the token.
    """

    stream: StreamName
    token: str = field(repr=False)
    peer: str
    agent: str = ""
    query: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ManageRequest:
    """
    A client that wants to use the management API.

    :ivar stream: the one that it is about; ``None`` for the whole server.
    :ivar token: the secret that it shows; never ``""``.
    :ivar peer: its address, behind the proxies that are trusted.
    """

    stream: StreamName | None
    token: str = field(repr=False)
    peer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    An authenticator's answer.

    :ivar allowed: yes or no.
    :ivar reason: for a refusal: one sentence for the client and the log; never a secret.
    :ivar credential: for consent: the same for the same credential, different for another; never the secret itself.
        A connection with the same credential may take over a silent one.
    :ivar expires_ms: when consent ends, in milliseconds since 1970: the publisher then gets the reason and is
        disconnected. ``None`` for never.
    :ivar is_unauthenticated: for a refusal: the credential is missing, unreadable or has expired, and another one may
        help; else it is a good one, for something else.
    :ivar is_undecided: for a refusal: it is one for now only, because it could not be decided.
    :ivar issued_ms: when the credential was issued, in milliseconds since 1970: those of a stream up to a moment can be
        revoked. ``None`` if that is not known.
    :ivar keep_ms: for consent to play: how long it may be kept before it is asked for again; ``None`` for as long as
        it lasts.
    :ivar reconnect_s: for consent: the credential is good for one session, and for so many seconds after its end to
        come back; ``None`` for any number of sessions.
    :ivar max_players: for consent to play: how many players may use the credential at one time; 0 for no limit.
    :ivar public_name: for consent to publish: the stream's key, if that is to be another than was asked for.
    :ivar max_bitrate: for consent to publish: bits a second that may be sent; 0 for no limit but the server's.
    :ivar subject: for consent to manage: whom the credential was issued to, for the log; ``""`` if it does not say.
    :ivar challenge: for a refusal to play: how browsers and players authenticate (RFC 9110, 11.6.1).
    """

    allowed: bool
    reason: str = ""
    credential: str = field(default="", repr=False)
    expires_ms: int | None = None
    is_unauthenticated: bool = False
    is_undecided: bool = False
    issued_ms: int | None = None
    keep_ms: int | None = None
    reconnect_s: int | None = None
    max_players: int = 0
    challenge: str = "Bearer"
    public_name: str = ""
    max_bitrate: int = 0
    subject: str = ""


class IAuthenticator(Interface):
    """Decides who may publish a name."""

    def authorize_publish(request: PublishRequest) -> Verdict | Deferred[Verdict]:
        """
        Decide. A Deferred that fails, or takes longer than the server's limit, refuses the publisher with a neutral
        reason; only that publisher waits. Where it has an attribute ``takes_secret_keys`` that is true, no key is
        logged of publishes that it refuses.
        """


class IPlayAuthenticator(Interface):
    """What an authenticator provides besides, if it can decide who may watch (``--play``)."""

    def authorize_play(request: PlayRequest) -> Verdict | Deferred[Verdict]:
        """
        Decide. The answer is kept for the stream, the token and the address until it ends; a Deferred that fails, or
        takes longer than ten seconds, refuses the client for now, and only that client waits.
        """


class IManageAuthenticator(Interface):
    """What an authenticator provides besides, if it can decide who may use the management API."""

    def authorize_manage(request: ManageRequest) -> Verdict | Deferred[Verdict]:
        """
        Decide. Called for each request; a Deferred that fails, or takes longer than ten seconds, refuses the client for
        now, and only that client waits.
        """


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """
    What a token is for, besides a stream and a time.

    :ivar streams: a pattern of streams, ``live/camera-*``, instead of the one.
    :ivar network: the only addresses that it is for, as ``10.0.0.0/8``; ``""`` for all.
    :ivar reconnect_s: good for one session, and for so many seconds after its end; ``None`` for any number.
    :ivar max_players: how many players may use it at one time; 0 for no limit.
    """

    action: Action = Action.PUBLISH
    streams: str = ""
    network: str = ""
    reconnect_s: int | None = None
    max_players: int = 0


class ITokenIssuer(Interface):
    """What an authenticator provides besides, if the API can ask it for tokens."""

    def issue_token(stream: StreamName, lifetime_s: int, terms: TokenTerms) -> str:
        """
        A new token for ``stream``: letters, digits and ``. _ ~ -``, at most 128 of them if it is for one stream, valid
        for ``lifetime_s`` seconds; ``""`` where none is needed.
        """


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
        """
        Make the authenticator; for ``--play``, an ``IPlayAuthenticator``. Raises ``ConfigurationError`` if it can never
        work.
        """


class IManageAuthenticatorFactory(IAuthenticatorFactory):
    """
    One whose authenticators provide ``IManageAuthenticator``: where the server's own ``--auth`` names it, it makes one
    more, for the management API.
    """
