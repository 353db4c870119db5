"""
Names and addresses: application, tcUrl and stream name, as lines of one input.

Nothing but ``BadNameError`` may escape; a name that passes is fit for URLs, paths and logs; and no error quotes a
secret.
"""

from __future__ import annotations

import re

from rapidrtmp.names import RESERVED_APPS, BadNameError, StreamName
from rapidrtmp.rtmp.address import app_path, parse_address, tc_url_host

__all__ = ["run"]

_FIT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}")
_SECRET = "Xq7"


def run(data: bytes) -> None:
    """One publisher's URL. :raises AssertionError: an invariant does not hold."""
    app, tc_url, name, *_ = [*data.decode("utf-8", "replace").split("\n"), "", "", ""]
    tc_url_host(tc_url)
    assert "?" not in app_path(app, tc_url)
    try:
        address = parse_address(app, tc_url, name)
        checked = StreamName.checked(address.app, address.key)
    except BadNameError as error:
        assert _SECRET not in str(error), "an error that quotes"
        return
    assert _FIT.fullmatch(checked.app)
    assert _FIT.fullmatch(checked.key)
    assert checked.app not in RESERVED_APPS
    assert _SECRET not in repr(address) or _SECRET in address.app + address.key
