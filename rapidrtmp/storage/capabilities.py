"""What a storage may provide beside :class:`~rapidrtmp.interfaces.IStorage`; who uses it asks, and does without."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

__all__ = ["IPacedStorage", "IStorageRedirect"]


class IPacedStorage(Interface):
    """A storage that refuses to have one object replaced too often."""

    replace_interval_s: float = Attribute("How many seconds must lie between two puts of one key, done or failed.")


class IStorageRedirect(Interface):
    """A storage from which clients can fetch objects themselves."""

    def redirect_url(key: str) -> Deferred[str | None]:
        """
        Where anybody can read an object for the next minutes; ``None`` where it must be read through the server.

        It is not looked whether there is such an object. Fails with ``StorageError``.
        """
