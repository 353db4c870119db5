import socket
from pathlib import Path

from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

import rapidrtmp
from rapidrtmp.support import twisted_transport
from rapidrtmp.support.twisted_transport import TRANSPORT_NAMES
from rapidrtmp.web.fast_path import twisted_private
from rapidrtmp.web.fast_path.twisted_private import CHANNEL_NAMES


class PrivateNamesTests(SynchronousTestCase):
    """What is used of Twisted without being promised: a release that lacks one of these names needs another way."""

    def test_channel_of_twisted_has_the_names(self) -> None:
        """A connection of Twisted has all that is used of it."""
        channel = HTTPChannel()  # type: ignore[no-untyped-call]
        channel.makeConnection(StringTransport())
        self.assertEqual([], [name for name in CHANNEL_NAMES if not hasattr(channel, name)])

    def test_transport_of_twisted_has_the_names(self) -> None:
        """So has a TCP transport."""
        with socket.socket() as bare:
            transport = Connection(bare, None, None)  # type: ignore[no-untyped-call]
            self.assertEqual([], [name for name in TRANSPORT_NAMES if not hasattr(transport, name)])

    def test_names_are_used_nowhere_else(self) -> None:
        """No other module of the server uses one."""
        channel, transport = (Path(module.__file__ or "") for module in (twisted_private, twisted_transport))
        for path in Path(rapidrtmp.__file__).parent.rglob("*.py"):
            text = path.read_text("utf-8")
            others = (*CHANNEL_NAMES, *TRANSPORT_NAMES)
            names = TRANSPORT_NAMES if path == channel else CHANNEL_NAMES if path == transport else others
            if "http2" not in path.parts:
                self.assertEqual([], [name for name in names if f".{name}" in text], path)
