"""
How what we send to other servers is signed, so that they know that it is from us, and new.

The receiver computes the same over the time, a dot and the body as it came, compares without telling how far it got
(``hmac.compare_digest``), and refuses a time that is minutes away from its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from rapidrtmp.errors import ConfigurationError

__all__ = ["SIGNATURE_FIELD", "TIMESTAMP_FIELD", "read_signing_secret", "sign"]

TIMESTAMP_FIELD, SIGNATURE_FIELD = "X-RapidRTMP-Timestamp", "X-RapidRTMP-Signature"


def sign(secret: bytes, timestamp: int, body: bytes) -> Mapping[str, str]:
    """
    The header fields that sign a body.

    :param timestamp: now, in seconds since 1970.
    :returns: ``X-RapidRTMP-Timestamp``, and ``X-RapidRTMP-Signature: sha256=HEX``, HMAC-SHA256 over the timestamp in
        decimal, a dot, and the body.
    """
    said = f"{timestamp}"
    digest = hmac.new(secret, said.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {TIMESTAMP_FIELD: said, SIGNATURE_FIELD: f"sha256={digest}"}


def read_signing_secret(path: str) -> bytes:
    """
    The secret in a file: its bytes less one line break at the end.

    :raises ConfigurationError: it cannot be read, or holds nothing.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise ConfigurationError(f"{path} is empty")
    return secret
