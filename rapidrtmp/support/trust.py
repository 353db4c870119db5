"""Which authorities a connection over TLS trusts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.ssl import Certificate, trustRootFromCertificates

from rapidrtmp.errors import ConfigurationError

__all__ = ["read_trust"]

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def read_trust(path: str) -> Any:
    """
    What a file of certificates in PEM says is to be trusted, for ``optionsForClientTLS``.

    :raises ConfigurationError: it cannot be read, or holds none.
    """
    try:
        found = [Certificate.loadPEM(each) for each in _PEM.findall(Path(path).read_bytes())]
    except OSError as error:
        raise ConfigurationError(f"its ca file {path}: {error.strerror or error}") from error
    except Exception as error:
        raise ConfigurationError(f"its ca file {path} holds no usable certificate") from error
    if not found:
        raise ConfigurationError(f"its ca file {path} holds no certificate in PEM")
    return trustRootFromCertificates(found)
