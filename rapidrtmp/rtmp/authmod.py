"""
The answers to servers that ask for a user and a password at connect: ``authmod=adobe``, and ``authmod=llnw``.

Neither is in a specification. A server refuses connect, and its description names the scheme; the client connects again
and says who it is; the server refuses once more, with a challenge; the client connects again with the answer. The
password itself is never sent, but MD5 is all that protects it: use RTMPS.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import md5

__all__ = ["answer_challenge", "wants_password"]

_SCHEME = re.compile(r"authmod=(adobe|llnw)\b")
#: Of llnw: the realm, what is asked for, and the number of the request.
_REALM, _METHOD, _QUALITY, _COUNT = "live", "publish", "auth", "00000001"


def wants_password(description: str) -> bool:
    """Whether a refusal asks for a user and a password in a way that is known here."""
    return _SCHEME.search(description) is not None


def answer_challenge(description: str, app: str, user: str, password: str, nonce: bytes) -> str | None:
    """
    What to add to the application and the URL of the next connect, as the fields of a query.

    :param description: of the refusal.
    :param app: what connect asked for, without any of this.
    :param nonce: some random bytes.
    :returns: ``None`` if the server does not want these credentials, or nothing that is known here.
    """
    found = _SCHEME.search(description)
    if found is None:
        return None
    scheme = found[1]
    said = f"authmod={scheme}&user={user}"
    _, is_challenge, fields = description.partition("?")
    if not is_challenge:
        return said
    values = dict(each.partition("=")[::2] for each in fields.split("&"))
    if values.get("reason", "needauth") != "needauth":
        return None
    answer = _answer_adobe if scheme == "adobe" else _answer_llnw
    return f"{said}&{answer(values, app, user, password, nonce.hex()[:8])}"


def _answer_adobe(values: dict[str, str], _app: str, user: str, password: str, nonce: str) -> str:
    opaque, challenge = values.get("opaque", ""), values.get("challenge", "")
    secret = _base64(f"{user}{values.get('salt', '')}{password}")
    response = _base64(f"{secret}{opaque or challenge}{nonce}")
    return f"challenge={nonce}&response={response}" + (f"&opaque={opaque}" if opaque else "")


def _answer_llnw(values: dict[str, str], app: str, user: str, password: str, nonce: str) -> str:
    path = app if "/" in app else f"{app}/_definst_"
    theirs = values.get("nonce", "")
    middle = f"{theirs}:{_COUNT}:{nonce}:{_QUALITY}:" if theirs else ""
    response = _hex(f"{_hex(f'{user}:{_REALM}:{password}')}:{middle}{_hex(f'{_METHOD}:/{path}')}")
    return f"nonce={theirs}&cnonce={nonce}&nc={_COUNT}&response={response}"


def _base64(text: str) -> str:
    return b64encode(md5(text.encode(), usedforsecurity=False).digest()).decode()


def _hex(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
