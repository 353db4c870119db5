"""
The ``http-users`` authenticator: names and passwords in a file, for small sites.

A line is ``NAME:HASH``, ``NAME:HASH:ACTIONS`` or ``NAME:HASH:ACTIONS:STREAMS``: the password's Argon2 hash
(``rapidrtmp password`` makes one), ``publish``, ``play`` or ``publish,play``, and patterns of streams with commas
between. Lines that begin with ``#`` are notes. The file is read again when it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred, DeferredSemaphore
from zope.interface import implementer

from rapidrtmp.auth.patterns import check_pattern, matches
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Action,
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    IPlayAuthenticator,
    PlayRequest,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import StreamName

__all__ = ["HttpUsersAuthenticator", "HttpUsersAuthenticatorFactory", "hash_password"]

#: Each takes some ten milliseconds of a processor and 64 MB.
CONCURRENT_CHECKS = 2
MAX_WAITING = 200
KEEP_MS = 300_000
MAX_PASSWORD_BYTES = 1024
_CHALLENGE = 'Basic realm="rapidrtmp", charset="UTF-8"'
_EVERYTHING = ("*/*",)


def hash_password(password: str) -> str:
    """What stands for a password in the file."""
    return PasswordHasher().hash(password)


@dataclass(frozen=True, slots=True)
class _User:
    """A line of the file."""

    hash: str = field(repr=False)
    actions: frozenset[str]
    streams: Sequence[str]

    def may(self, action: Action, stream: StreamName) -> bool:
        return action.value in self.actions and any(matches(pattern, stream) for pattern in self.streams)


def _read_users(path: str, text: str) -> Mapping[str, _User]:
    """The users of a file. :raises ConfigurationError: a line is none; it is named by its number."""
    users: dict[str, _User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, user = _read_user(line.strip())
        except (ValueError, ConfigurationError) as error:
            raise ConfigurationError(f"{path}, line {number}: {error}") from error
        if name in users:
            raise ConfigurationError(f"{path}, line {number}: {name} is there twice")
        users[name] = user
    return users


def _read_user(line: str) -> tuple[str, _User]:
    name, _, rest = line.partition(":")
    hashed, _, rest = rest.partition(":")
    actions, _, streams = rest.partition(":")
    if not name or not hashed.startswith("$argon2"):
        raise ValueError("it is not NAME:HASH with a hash that `rapidrtmp password` has made")
    try:
        PasswordHasher().check_needs_rehash(hashed)
    except InvalidHashError as error:
        raise ValueError("the hash cannot be read") from error
    chosen = frozenset(filter(None, actions.split(","))) or frozenset(action.value for action in Action)
    unknown = chosen - {action.value for action in Action}
    if unknown:
        raise ValueError(f"{min(unknown)} is neither publish nor play")
    patterns = [check_pattern(each.strip()) for each in streams.split(",") if each.strip()]
    return name, _User(hashed, chosen, patterns or _EVERYTHING)


@implementer(IAuthenticator, IPlayAuthenticator)
class HttpUsersAuthenticator:
    """
    Checks names and passwords.

    :raises ConfigurationError: the file cannot be read.
    """

    def __init__(self, path: str, context: AuthenticatorContext) -> None:
        self._path = path
        self._in_thread = context.in_thread
        self._log = context.log
        self._stamp = self._stamp_of_file()
        self._users = self._read()
        self._checks = DeferredSemaphore(CONCURRENT_CHECKS)
        self._hasher = PasswordHasher()
        self._decoy = self._hasher.hash("no one's password")

    def _stamp_of_file(self) -> tuple[int, int, int]:
        try:
            found = Path(self._path).stat()
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror or error}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Mapping[str, _User]:
        try:
            return _read_users(self._path, Path(self._path).read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror or error}") from error
        except UnicodeError as error:
            raise ConfigurationError(f"{self._path} is not UTF-8") from error

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be read changes nothing."""
        try:
            stamp = self._stamp_of_file()
            if stamp != self._stamp:
                self._stamp = stamp
                self._users = self._read()
        except ConfigurationError as error:
            self._log.error("users stay as they were: {error}", error=error)

    def authorize_publish(self, request: PublishRequest) -> Deferred[Verdict]:
        """Consent if the URL has a ``user`` and a ``pass`` that may publish this stream."""
        said = request.parameters
        name, password = said.get("user") or said.get("username", ""), said.get("pass") or said.get("password", "")
        if not name:
            name, _, password = request.token.partition(":")
        return Deferred.fromCoroutine(self._judge(Action.PUBLISH, request.stream, name, password))

    def authorize_play(self, request: PlayRequest) -> Deferred[Verdict]:
        """Consent if the client authenticates as one who may watch this stream."""
        name, _, password = request.token.partition(":")
        return Deferred.fromCoroutine(self._judge(Action.PLAY, request.stream, name, password))

    async def _judge(self, action: Action, stream: StreamName, name: str, password: str) -> Verdict:
        if not name or not password:
            return self._refusal("a name and a password are needed")
        if len(self._checks.waiting) >= MAX_WAITING:
            reason = "too many passwords are being checked; try again later"
            return Verdict(allowed=False, reason=reason, is_undecided=True)
        self._look()
        user = self._users.get(name)
        hashed = self._decoy if user is None else user.hash
        is_right = await self._checks.run(self._in_thread, self._matches, hashed, password)
        if user is None or not is_right:
            return self._refusal("the name or the password is wrong")
        if not user.may(action, stream):
            return Verdict(allowed=False, reason=f"{name} may not {action} this stream")
        return Verdict(allowed=True, credential=f"user {name}", keep_ms=KEEP_MS)

    def _refusal(self, reason: str) -> Verdict:
        return Verdict(allowed=False, reason=reason, is_unauthenticated=True, challenge=_CHALLENGE)

    def _matches(self, hashed: str, password: str) -> bool:
        """Compare, in a thread."""
        if len(password.encode("utf-8", "replace")) > MAX_PASSWORD_BYTES:
            return False
        try:
            return self._hasher.verify(hashed, password.encode("utf-8", "replace"))
        except (VerificationError, InvalidHashError):
            return False


@implementer(IAuthenticatorFactory)
class HttpUsersAuthenticatorFactory:
    """
    ``http-users:FILE``.

    :param file: with a name and a password's hash on each line.
    """

    def __init__(self, file: str) -> None:
        self._file = file

    def create(self, context: AuthenticatorContext) -> HttpUsersAuthenticator:
        """Make the authenticator. :raises ConfigurationError: the file cannot be read."""
        return HttpUsersAuthenticator(self._file, context)
