"""Where the tools find a server, and which secret they send it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.management_client import Target, check_url, find_secret, find_targets
from rapidrtmp.settings.sources import load_settings

HERE, THERE = Target("http://localhost:8080"), Target("https://media.example.com")


class TargetTests(SynchronousTestCase):
    def roots(self, **environment: str) -> list[str]:
        return [str(target) for target in find_targets(load_settings({}, environment))]

    def test_default_place_of_a_server(self) -> None:
        """With nothing said it is where a server with nothing said is."""
        self.assertEqual(["http://localhost:8080"], self.roots())

    def test_endpoints_in_their_order(self) -> None:
        """Every endpoint that can be connected to is one, in order; one at any port is not."""
        cases = {
            "tcp:81 tcp:port=82": ["http://localhost:81", "http://localhost:82"],
            "tcp:80:interface=10.0.0.1 tcp:80:interface=0.0.0.0": ["http://10.0.0.1:80", "http://localhost:80"],
            "tcp6:80 tcp6:80:interface=2001\\:db8\\:\\:1": ["http://localhost:80", "http://[2001:db8::1]:80"],
            "ssl:443:privateKey=k:certKey=c": ["https://localhost:443"],
            "unix:/run/media.sock unix:address=b": ["unix:/run/media.sock", "unix:b"],
            "tcp:0 systemd:domain=INET:index=0": [],
        }
        for endpoints, expected in cases.items():
            self.assertEqual(expected, self.roots(RAPIDRTMP_SERVER_HTTP=endpoints), endpoints)

    def test_door_of_its_own(self) -> None:
        """Where the API has a door of its own it is there and nowhere else."""
        self.assertEqual(["http://localhost:9080"], self.roots(RAPIDRTMP_SERVER_MANAGE="tcp:9080"))

    def test_url_with_or_without_scheme(self) -> None:
        """A URL may be given, with or without its scheme."""
        for text, expected in (
            ("https://media.example.com/", "https://media.example.com"),
            ("localhost:9080", "http://localhost:9080"),
        ):
            self.assertEqual(expected, check_url(text).root)
        for text in ("ftp://media.example.com", "http://", ""):
            self.assertRaises(ConfigurationError, check_url, text)

    def test_local_doors_are_known(self) -> None:
        """Which doors are on this machine is known from their addresses."""
        for target in (HERE, Target("https://127.0.0.9:1"), Target("http://[::1]:1"), Target("http://x", "/run/s")):
            self.assertTrue(target.is_local, target)
        for target in (THERE, Target("http://10.0.0.1"), Target("http://localhost.example.com")):
            self.assertFalse(target.is_local, target)


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "data" / "api.key").write_text("secret of this folder\n")

    def secret(self, target: Target, folder: Path | None = None, **environment: str) -> str:
        return find_secret(load_settings({}, environment), target, [Path("nowhere"), folder or self.folder])

    def test_secret_beside_the_server(self) -> None:
        """The secret that a server on this machine made is found where it put it, if that can be read."""
        self.assertEqual("secret of this folder", self.secret(HERE))
        self.assertEqual("", self.secret(HERE, self.folder / "data"))

    def test_not_for_others(self) -> None:
        """What lies about is not sent to another machine; what is given for it is."""
        self.assertEqual("", self.secret(THERE))
        self.assertEqual("given", self.secret(THERE, RAPIDRTMP_SERVER_API_TOKEN="given"))
        file = self.folder / "copy"
        file.write_text("a copy")
        self.assertEqual("a copy", self.secret(THERE, RAPIDRTMP_SERVER_API_TOKEN_FILE=str(file.absolute())))
