"""
The file of the relays that were added by the API: they come back when the server starts again, with their keys.

Several processes of one server share it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.interfaces import PushTarget
from rapidrtmp.names import StreamName
from rapidrtmp.support.secret import Secret, reveal

try:
    import fcntl
except ImportError:  # a system without: there only one process serves at a time
    fcntl = None  # type: ignore[assignment]

__all__ = ["KeptRelay", "change_relays", "read_relays", "write_relays"]

_FIELDS = ("url", "key", "rendition", "ca")


@dataclass(frozen=True, slots=True)
class KeptRelay:
    """One of them."""

    id: str
    stream: StreamName
    target: PushTarget


def read_relays(path: Path) -> Sequence[KeptRelay]:
    """
    Read the file; without one there are none.

    :raises OSError: it cannot be read.
    :raises ValueError: it holds something else.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ()
    try:
        return [_read(each) for each in document["relays"]]
    except (KeyError, TypeError, AttributeError, RapidRTMPError) as error:
        raise ValueError("it is not a list of relays") from error


def _read(entry: Any) -> KeptRelay:
    said: dict[str, Any] = {name: str(entry.get(name, "")) for name in _FIELDS}
    target = PushTarget(**{**said, "key": Secret(said["key"])})
    return KeptRelay(str(entry["id"]), StreamName.checked(entry["app"], entry["stream"]), target)


def change_relays(path: Path, *, add: KeptRelay | None = None, remove: str = "") -> None:
    """
    Add a relay to the file, or remove the one of an id; other processes may do so at the same time.

    :raises OSError: that cannot be done; then the file is as it was.
    :raises ValueError: it holds something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "rb+") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        kept = [each for each in read_relays(path) if each.id != remove]
        write_relays(path, kept if add is None else [*kept, add])


def write_relays(path: Path, relays: Sequence[KeptRelay]) -> None:
    """
    Write the file: whole, and readable by its owner alone, from its first moment.

    :raises OSError: that cannot be done; then it is as it was.
    """
    entries = [
        {
            "id": each.id,
            "app": each.stream.app,
            "stream": each.stream.key,
            **{name: reveal(getattr(each.target, name)) for name in _FIELDS if getattr(each.target, name)},
        }
        for each in relays
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"relays": entries}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
