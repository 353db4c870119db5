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
    Pause,
    Play,
    Publish,
    Receive,
    ReleaseStream,
    Seek,
    UnknownCommand,
)
from rapidrtmp.rtmp.handshake import HandshakeDone
from rapidrtmp.rtmp.session.states import TRANSITIONS, Decision, Role, State, Trigger, next_state

H, U, W, C, P, L, Q, Y, X = (
    State.HANDSHAKING,
    State.UNCONNECTED,
    State.CONNECT_PENDING,
    State.CONNECTED,
    State.PUBLISH_PENDING,
    State.PUBLISHING,
    State.PLAY_PENDING,
    State.PLAYING,
    State.CLOSED,
)
N = None
#: What follows each of the nine states, ``None`` where the trigger has no place.
EXPECTED: dict[Trigger, tuple[State | None, ...]] = {
    HandshakeDone: (U, N, N, N, N, N, N, N, N),
    Connect: (N, W, N, N, N, N, N, N, N),
    CreateStream: (N, N, N, C, P, L, Q, Y, N),
    ReleaseStream: (N, N, N, C, P, L, Q, Y, N),
    FCPublish: (N, N, N, C, P, L, Q, Y, N),
    CheckBandwidth: (N, N, N, C, P, L, Q, Y, N),
    GetStreamLength: (N, N, N, C, P, L, Q, Y, N),
    Pause: (N, N, N, C, P, L, Q, Y, N),
    Receive: (N, N, N, C, P, L, Q, Y, N),
    Seek: (N, N, N, C, P, L, Q, Y, N),
    Publish: (N, N, N, P, P, L, Q, Y, N),
    Play: (N, N, N, Q, P, L, Q, Y, N),
    FCUnpublish: (N, N, N, C, C, C, Q, Y, N),
    DeleteStream: (N, N, N, C, C, C, C, C, N),
    CloseStream: (N, N, N, C, C, C, C, C, N),
    UnknownCommand: (N, U, W, C, P, L, Q, Y, N),
    Decision.ACCEPT_CONNECT: (N, N, C, N, N, N, N, N, N),
    Decision.REJECT_CONNECT: (N, N, X, N, N, N, N, N, N),
    Decision.ACCEPT_PUBLISH: (N, N, N, N, L, N, N, N, N),
    Decision.REJECT_PUBLISH: (N, N, N, N, C, N, N, N, N),
    Decision.END_PUBLISH: (N, N, N, N, N, C, N, N, N),
    Decision.ACCEPT_PLAY: (N, N, N, N, N, N, Y, N, N),
    Decision.REJECT_PLAY: (N, N, N, N, N, N, C, N, N),
    Decision.END_PLAY: (N, N, N, N, N, N, N, C, N),
    Decision.REFUSE_CONNECTION: (X, X, X, X, X, X, X, X, X),
    PeerProtocolError: (X, X, X, X, X, X, X, X, X),
}


class TransitionTests(SynchronousTestCase):
    """The table of a session's life."""

    def test_every_pair_leads_or_raises(self) -> None:
        """Every trigger in every state leads where it should, or raises: the peer's fault or ours."""
        for (trigger, row), role in itertools.product(EXPECTED.items(), Role):
            for state, expected in zip(State, row, strict=True):
                if expected is not None:
                    self.assertIs(expected, next_state(state, trigger, role), (state, trigger))
                else:
                    is_ours = isinstance(trigger, Decision) is (role is Role.SERVER)
                    self.assertRaises(MisuseError if is_ours else PeerProtocolError, next_state, state, trigger, role)

    def test_table_is_complete_and_closed(self) -> None:
        """Every command and every decision is among them, and the table holds nothing else."""
        self.assertEqual({*get_args(Command), *Decision, HandshakeDone, PeerProtocolError}, set(EXPECTED))
        pairs = {pair for pair in itertools.product(State, EXPECTED) if EXPECTED[pair[1]][list(State).index(pair[0])]}
        self.assertEqual(pairs, set(TRANSITIONS))

    def test_words_of_a_wrong_state(self) -> None:
        """An error says what and when, in words for a log."""
        with self.assertRaisesRegex(PeerProtocolError, "^Publish while not connected to an application$"):
            next_state(State.UNCONNECTED, Publish, Role.SERVER)
        with self.assertRaisesRegex(MisuseError, "^cannot accept a publish while connected$"):
            next_state(State.CONNECTED, Decision.ACCEPT_PUBLISH, Role.SERVER)
