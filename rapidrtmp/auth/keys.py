"""
The keys that sign tokens: one secret a line, of which the first signs and all verify.

A new line on top of the file rotates the keys: what the former ones signed is good until it expires, or their lines
are removed. The file is read again when it changes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from twisted.logger import Logger

from rapidrtmp.auth.signed import key_id_of
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.support.secret_file import keep_secret

__all__ = ["DEFAULT_SECRET_FILE", "MINIMUM_SECRET_LENGTH", "FixedKeys", "Keys", "KeysInFile", "check_keys"]

MINIMUM_SECRET_LENGTH = 16
DEFAULT_SECRET_FILE = "data/token.key"
#: How often at most it is looked whether the file has changed.
LOOK_EVERY_MS = 1_000


class Keys(Protocol):
    """Those of a server."""

    @property
    def all(self) -> Mapping[bytes, bytes]:
        """Keys by what tokens call them, the one that signs first."""


class FixedKeys:
    """Keys that are known once for all."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.all: Mapping[bytes, bytes] = {key_id_of(key): key for key in keys}


def check_keys(text: bytes, where: str) -> Sequence[bytes]:
    """
    The keys in a text, one a line.

    :param where: begins the message.
    :raises ConfigurationError: there is none, or one that could be guessed.
    """
    keys = [line.strip() for line in text.splitlines() if line.strip()] or [b""]
    short = min(map(len, keys))
    if short < MINIMUM_SECRET_LENGTH:
        raise ConfigurationError(f"{where} holds {short} bytes, fewer than {MINIMUM_SECRET_LENGTH}")
    return keys


class KeysInFile:
    """
    Keys in a file, which is made with a random one if it is not there.

    :param utc_ms: the time of day in milliseconds since 1970.
    :raises ConfigurationError: the file can neither be read nor made, or holds no secret. The default one lives in
        memory where it cannot be made, in a folder that is read-only.
    """

    def __init__(self, path: Path, utc_ms: Callable[[], int], log: Logger) -> None:
        self._path = path
        self._utc_ms = utc_ms
        self._log = log
        self._stamp: tuple[int, int, int] | None = None
        self._looked_ms = 0
        self._keys = FixedKeys(self._first_keys())

    @property
    def all(self) -> Mapping[bytes, bytes]:
        """Those of now."""
        now_ms = self._utc_ms()
        if abs(now_ms - self._looked_ms) >= LOOK_EVERY_MS:
            self._looked_ms = now_ms
            self._look()
        return self._keys.all

    def _first_keys(self) -> Sequence[bytes]:
        self._looked_ms = self._utc_ms()
        try:
            text = keep_secret(self._path, "token secret", self._log)
            self._stamp = self._stamp_of_file()
        except OSError as error:
            if str(self._path) != DEFAULT_SECRET_FILE or _may_exist(self._path):
                raise ConfigurationError(f"the token secret {self._path}: {error.strerror or error}") from error
            self._log.warn(
                "the token secret cannot be kept in {path} ({error}): tokens are good until this server ends",
                path=str(self._path.absolute()),
                error=error.strerror or str(error),
            )
            return [secrets.token_bytes(32)]
        try:
            return check_keys(text, f"the token secret {self._path}")
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}: delete it to have a new one made") from error

    def _stamp_of_file(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be read changes nothing."""
        if self._stamp is None:
            return
        try:
            stamp = self._stamp_of_file()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._keys = FixedKeys(check_keys(self._path.read_bytes(), f"the token secret {self._path}"))
        except FileNotFoundError:
            self._stamp = 0, 0, 0
            return
        except (OSError, ConfigurationError) as error:
            self._log.error("the keys of tokens stay as they were: {error}", error=error)
            return
        self._log.info("the keys of tokens were read again: {count} of them", count=len(self._keys.all))


def _may_exist(path: Path) -> bool:
    """Whether there may be a file: it is there, or its folder cannot be looked into."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
