"""Files that hold one secret: made with a random one where there is none, whole and private from their first moment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from twisted.logger import Logger

__all__ = ["keep_secret", "read_secret"]


def keep_secret(path: Path, what: str, log: Logger) -> bytes:
    """
    Read the secret in a file, and make both first if the file is not there.

    :param what: the secret is, for the log: ``token secret``.
    :raises OSError: the file can neither be read nor made.
    """
    if not path.exists():
        _create(path)
        log.info("a new {what} is in {path}", what=what, path=str(path.absolute()))
    secret = read_secret(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warn("{path} holds the {what} and others may read it: chmod 600 {path}", path=str(path), what=what)
    return secret


def read_secret(path: Path) -> bytes:
    """Read the secret in a file, without the space around it. :raises OSError: that cannot be done."""
    return path.read_bytes().strip()


def _create(path: Path) -> None:
    """If another process was faster, its file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Let the name outlive a power cut too, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
