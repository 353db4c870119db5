"""
The secret of the management API: from the settings, else from a file that is made when the server starts first.

Its place is logged and its content never. Only where no file can be made it is printed, once, past the log: it is then
good until the server ends.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TextIO

from twisted.logger import Logger

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.settings.model import ServerSettings
from rapidrtmp.support.secret_file import keep_secret

__all__ = ["SHORT", "find_api_secret"]

#: Below so many characters a secret can be guessed.
SHORT = 16


def find_api_secret(server: ServerSettings, log: Logger, out: TextIO | None = None) -> bytes:
    """
    The secret of a server that starts.

    :param out: where it is printed if it cannot be kept; the standard error that the process was started with if left
        out, for what is written to that of today lands in the log.
    :raises ConfigurationError: the file that the operator chose can neither be read nor made, or is empty.
    """
    path = Path(server.api_token_file)
    try:
        was_there = not server.api_token and path.exists()
        secret = server.api_token.encode() if server.api_token else keep_secret(path, "management secret", log)
    except OSError as error:
        if server.api_token_file != ServerSettings.api_token_file:
            raise ConfigurationError(f"server.api_token_file: {path}: {error.strerror or error}") from error
        return _passing_secret(path, error, log, out or sys.__stderr__)
    if not secret:
        raise ConfigurationError(f"server.api_token_file: {path} is empty: delete it to have a new secret made")
    if len(secret) < SHORT:
        log.warn("the management secret has fewer than {count} characters and can be guessed", count=SHORT)
    if was_there:
        log.info("the management secret is in {path}", path=str(path.absolute()))
    return secret


def _passing_secret(path: Path, error: OSError, log: Logger, out: TextIO | None) -> bytes:
    secret = secrets.token_hex(32)
    log.warn(
        "the management secret cannot be kept in {path} ({error}): it changes with every start, and is printed once",
        path=str(path.absolute()),
        error=error.strerror or str(error),
    )
    if out is not None:
        print(f"rapidrtmp: the management secret until this server ends: {secret}", file=out, flush=True)
    return secret.encode()
