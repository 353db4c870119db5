"""The section ``[relays]`` of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from rapidrtmp.interfaces.settings import setting

__all__ = ["RelaySettings"]


@dataclass(frozen=True)
class RelaySettings:
    """What relays need beside what applications say of them."""

    file: str = setting(
        "data/relays.json", "File with the relays that were added by the API; it holds their keys", holds_secrets=True
    )
