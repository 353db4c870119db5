from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.signatures import read_signing_secret, sign


class SignatureTests(SynchronousTestCase):
    def test_fields_are_signed_with_time(self) -> None:
        """A body is signed together with the time, so that neither can be another's."""
        expected = hmac.new(b"secret", b'1700000000.{"a": 1}', hashlib.sha256).hexdigest()
        self.assertEqual(
            {"X-RapidRTMP-Timestamp": "1700000000", "X-RapidRTMP-Signature": f"sha256={expected}"},
            sign(b"secret", 1_700_000_000, b'{"a": 1}'),
        )

    def test_secret_is_read_from_a_file(self) -> None:
        """A secret is what its file holds, less the line break that editors add; an empty one is none."""
        path = Path(self.mktemp())
        for data, expected in ((b"secret\n", b"secret"), (b"secret\r\n", b"secret"), (b"a\nb\n\n", b"a\nb\n")):
            path.write_bytes(data)
            self.assertEqual(expected, read_signing_secret(str(path)))
        path.write_bytes(b"\n")
        self.assertIn("is empty", str(self.assertRaises(ConfigurationError, read_signing_secret, str(path))))
        missing = self.assertRaises(ConfigurationError, read_signing_secret, "no/such/file")
        self.assertIn("no/such/file: No such file", str(missing))
