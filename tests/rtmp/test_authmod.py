"""The answers to servers that ask for a password at connect."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.rtmp.authmod import answer_challenge, wants_password

NEEDED = "[ AccessManager.Reject ] : [ code=403 need auth; authmod={} ] : "
ADOBE = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=me&salt=S4lt&challenge=Ch4l&opaque=0p4q"
LLNW = "[ AccessManager.Reject ] : [ authmod=llnw ] : ?reason=needauth&user=me&nonce=N0nce"


def answer(description: str, app: str = "live") -> str | None:
    return answer_challenge(description, app, "me", "pass", b"\x01\x23\x45\x67")


class AnswerTests(SynchronousTestCase):
    def test_other_refusals_want_no_password(self) -> None:
        """A refusal for any other reason is none that a password would change."""
        for description in ("", "no such application", "authmod=other"):
            self.assertFalse(wants_password(description))
            self.assertIsNone(answer(description))

    def test_user_is_said_first(self) -> None:
        """A server that names its scheme learns who we are."""
        for scheme in ("adobe", "llnw"):
            self.assertTrue(wants_password(NEEDED.format(scheme)))
            self.assertEqual(f"authmod={scheme}&user=me", answer(NEEDED.format(scheme)))

    def test_adobe_challenge_is_answered(self) -> None:
        """The answer is md5 of (md5 of user, salt, password), opaque or else the challenge, and our own; in base 64."""
        self.assertEqual(
            "authmod=adobe&user=me&challenge=01234567&response=Afh9mSlKQ6oasEMIGUD5eg==&opaque=0p4q", answer(ADOBE)
        )
        self.assertEqual(
            "authmod=adobe&user=me&challenge=01234567&response=", (answer(ADOBE.partition("&opaque")[0]) or "")[:50]
        )

    def test_llnw_challenge_is_answered(self) -> None:
        """The answer is that of HTTP's digest, for publishing to the application, or to its default instance."""
        default, named = answer(LLNW), answer(LLNW, "live/room")
        self.assertNotEqual(default, named)
        self.assertEqual(default, answer(LLNW, "live/_definst_"))
        assert default is not None
        self.assertRegex(
            default, r"^authmod=llnw&user=me&nonce=N0nce&cnonce=01234567&nc=00000001&response=[0-9a-f]{32}$"
        )

    def test_wrong_password_ends_it(self) -> None:
        """A server that does not take the answer is not asked again."""
        for reason in ("authfailed", "nosuchuser"):
            self.assertIsNone(answer(f"[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason={reason}&opaque=x"))
