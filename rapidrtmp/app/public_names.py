"""
What streams are called whose keys are secret: the public name that a publisher's key stands for.

The key is taken at publish only. All else (URLs, API, playlists, metrics, logs) knows the public name, from which the
key cannot be found.
"""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path

from twisted.logger import Logger

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.settings.types import HASHED_NAMES
from rapidrtmp.support.secret_file import keep_secret

__all__ = ["PublicNames"]

#: Of a name that is a hash: 80 bits.
_HASH_SIZE = 10


class PublicNames:
    """
    The public names of one application.

    :param text: as the setting holds it: ``""``, ``hashed``, or a table of keys and names in JSON.
    :param key_file: holds what hashes are keyed with; made when that is needed and not there.
    :raises ConfigurationError: the file can neither be read nor made.
    """

    def __init__(self, app: str, text: str, key_file: str, log: Logger) -> None:
        self._app = app
        self._hash_key = _read_key(key_file, log) if text == HASHED_NAMES else b""
        self._table: dict[bytes, str] | None = None
        if text and not self._hash_key:
            self._table = {key.encode(): name for key, name in json.loads(text).items()}

    @property
    def are_others(self) -> bool:
        """Whether keys are secret, and streams called otherwise."""
        return bool(self._hash_key) or self._table is not None

    def find(self, key: str) -> str | None:
        """The public name of the stream that a key publishes; ``None`` if the key publishes none."""
        if self._hash_key:
            digest = hmac.digest(self._hash_key, f"{self._app}/{key}".encode(), "sha256")[:_HASH_SIZE]
            return base64.b32encode(digest).decode("ascii").lower()
        return key if self._table is None else self._table.get(key.encode())


def _read_key(key_file: str, log: Logger) -> bytes:
    try:
        key = keep_secret(Path(key_file), "key of public names", log)
    except OSError as error:
        raise ConfigurationError(f"the key of public names {key_file}: {error.strerror or error}") from error
    if not key:
        raise ConfigurationError(f"the key of public names {key_file} is empty: delete it to have a new one made")
    return key
