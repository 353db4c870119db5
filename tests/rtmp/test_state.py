import itertools
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import MisuseError, PeerProtocolError
from rapidrtmp.rtmp.command import (
    CheckBandwidth,
    CloseStream,
    Command,
    Connect,
    CreateStream,
    DeleteStream,
    FCPublish,
    FCUnpublish,
    GetStreamLength,
    Play,
    Publish,
    ReleaseStream,
    UnknownCommand,
)
from rapidrtmp.rtmp.handshake import HandshakeDone
from rapidrtmp.rtmp.state import TRANSITIONS, Decision, State, Trigger, next_state

H, U, C, P, L, X = (
    State.HANDSHAKING,
    State.UNCONNECTED,
    State.CONNECTED,
    State.PUBLISH_PENDING,
    State.PUBLISHING,
    State.CLOSED,
)
#: What follows each of the six states, ``None`` where the trigger has no place.
EXPECTED: dict[Trigger, tuple[State | None, ...]] = {
    HandshakeDone: (U, None, None, None, None, None),
    Connect: (None, C, None, None, None, None),
    CreateStream: (None, None, C, P, L, None),
    ReleaseStream: (None, None, C, P, L, None),
    FCPublish: (None, None, C, P, L, None),
    CheckBandwidth: (None, None, C, P, L, None),
    GetStreamLength: (None, None, C, P, L, None),
    Play: (None, None, C, P, L, None),
    Publish: (None, None, P, P, L, None),
    FCUnpublish: (None, None, C, C, C, None),
    DeleteStream: (None, None, C, C, C, None),
    CloseStream: (None, None, C, C, C, None),
    UnknownCommand: (None, U, C, P, L, None),
    Decision.ACCEPT_PUBLISH: (None, None, None, L, None, None),
    Decision.REJECT_PUBLISH: (None, None, None, C, None, None),
    Decision.END_PUBLISH: (None, None, None, None, C, None),
    Decision.REFUSE_CONNECTION: (X, X, X, X, X, X),
    PeerProtocolError: (X, X, X, X, X, X),
}


class TransitionTests(SynchronousTestCase):
    """The table of a session's life."""

    def test_every_pair(self) -> None:
        """Every trigger in every state leads where it should, or raises: the client's fault or ours."""
        for trigger, row in EXPECTED.items():
            for state, expected in zip(State, row, strict=True):
                if expected is not None:
                    self.assertIs(expected, next_state(state, trigger), (state, trigger))
                else:
                    fault = MisuseError if isinstance(trigger, Decision) else PeerProtocolError
                    self.assertRaises(fault, next_state, state, trigger)

    def test_complete(self) -> None:
        """Every command and every decision is among them, and the table holds nothing else."""
        self.assertEqual({*get_args(Command), *Decision, HandshakeDone, PeerProtocolError}, set(EXPECTED))
        pairs = {pair for pair in itertools.product(State, EXPECTED) if EXPECTED[pair[1]][list(State).index(pair[0])]}
        self.assertEqual(pairs, set(TRANSITIONS))

    def test_words(self) -> None:
        """An error says what and when, in words for a log."""
        with self.assertRaisesRegex(PeerProtocolError, "^Publish while not connected to an application$"):
            next_state(State.UNCONNECTED, Publish)
        with self.assertRaisesRegex(MisuseError, "^can not accept a publish while connected$"):
            next_state(State.CONNECTED, Decision.ACCEPT_PUBLISH)
