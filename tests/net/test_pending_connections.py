"""Which connection is closed when there are too many."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.pending_connections import PendingConnection, PendingConnections, Stage


class Connection(PendingConnection):
    """A connection and nothing else."""

    def __init__(self, client_prefix: str) -> None:
        self.client_prefix = client_prefix
        self.stage = Stage.SILENT


class PendingConnectionsTests(SynchronousTestCase):
    """The order in which pending connections are closed."""

    def setUp(self) -> None:
        """No connections yet."""
        self.pending: PendingConnections[Connection] = PendingConnections()

    def connect(self, *client_prefixes: str) -> list[Connection]:
        """Add connections, one from each of ``client_prefixes``."""
        connections = [Connection(client_prefix) for client_prefix in client_prefixes]
        for connection in connections:
            self.pending.add(connection)
        return connections

    def close_all(self) -> list[Connection]:
        """Close all, in the order they make room."""
        closed = []
        while (connection := self.pending.first_to_close()) is not None:
            closed.append(connection)
            self.pending.remove(connection)
        return closed

    def test_crowd_makes_room_first(self) -> None:
        """While one client has more than a few, one of its own goes, however long others have waited."""
        old, *crowd = self.connect("a", *"bbbbbbb")
        for connection in crowd:
            self.pending.reached(connection, Stage.READY)
        self.assertEqual([*crowd[:3], old, *crowd[3:]], self.close_all())
        self.assertEqual(0, len(self.pending))

    def test_least_far_first(self) -> None:
        """Of connections from everywhere those go first that have got least far, and of these the oldest."""
        first, second, third, fourth = self.connect(*"abcd")
        self.pending.reached(first, Stage.READY)
        self.pending.reached(third, Stage.HANDSHAKING)
        self.assertEqual([second, fourth, third, first], self.close_all())

    def test_least_far_of_a_crowd(self) -> None:
        """The same holds within a crowd."""
        crowd = self.connect(*"aaaaaa")
        self.pending.reached(crowd[0], Stage.HANDSHAKING)
        self.assertIs(crowd[1], self.pending.first_to_close())

    def test_of_one_client(self) -> None:
        """Where one client has too many, one of its own goes."""
        a, b = self.connect("a", "b")
        self.assertEqual([a, b, None], [self.pending.first_to_close(client) for client in "abc"])

    def test_each_connection_is_counted_once(self) -> None:
        """Adding or removing twice counts once, and progress of one that is not pending makes it none."""
        (connection,) = self.connect("a")
        self.pending.add(connection)
        self.assertEqual((1, [connection]), (len(self.pending), list(self.pending)))
        for _ in range(2):
            self.pending.remove(connection)
            self.assertEqual(0, len(self.pending))
        self.pending.reached(connection, Stage.READY)
        self.assertNotIn(connection, self.pending)
        self.assertIsNone(self.pending.first_to_close())
