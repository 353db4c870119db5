from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.settings.spec import mask_spec, parse_spec


class SpecTests(SynchronousTestCase):
    def test_name_arguments_and_options(self) -> None:
        """A spec is a name, then arguments in order, some with a key."""
        spec = parse_spec("gcs:bucket:prefix=a/b:project=p")
        self.assertEqual(("gcs", ("bucket",), {"prefix": "a/b", "project": "p"}), _parts(spec))

    def test_escapes_are_taken_literally(self) -> None:
        """A backslash takes a colon, an equals sign or itself literally."""
        spec = parse_spec(r"relay:rtmp\://host/app?a\=b:path=C\:\\x=y")
        self.assertEqual(("relay", ("rtmp://host/app?a=b",), {"path": r"C:\x=y"}), _parts(spec))

    def test_dashes_in_keys_and_values(self) -> None:
        """A dash in a key means the underscore of the parameter's name, and one in a value itself."""
        self.assertEqual({"secret_file": "a-b"}, parse_spec("token:secret-file=a-b").options)

    def test_refusals_show_no_spec(self) -> None:
        """A spec without a name, with a key twice or cut off after a backslash is refused, without its values."""
        for text in ("", ":a", "=a", "a=hidden", "x:b=hidden:b=hidden", "x:hidden\\"):
            error = self.assertRaises(ConfigurationError, parse_spec, text)
            self.assertNotIn("hidden", str(error))

    @given(st.text(alphabet="ab:=\\", max_size=12))
    def test_same_grammar_as_endpoints(self, text: str) -> None:
        """Whatever Twisted's own reader of endpoint strings makes of a text, so do we."""
        text = "name:" + text
        try:
            arguments, options = endpoints._parse(text)
        except RuntimeError:  # its generator runs off the end after a last backslash
            self.assertRaises(ConfigurationError, parse_spec, text)
            return
        try:
            spec = parse_spec(text)
        except ConfigurationError as error:
            self.assertIn("twice", str(error))
            return
        self.assertEqual((arguments, options), ([spec.name, *spec.arguments], dict(spec.options)))


class MaskTests(SynchronousTestCase):
    def test_secrets_are_not_shown(self) -> None:
        """Secrets among the options, and what a URL holds besides its host, are not shown; the rest is."""
        for text, expected in (
            ("token:secret=abc:mid-session=end", "token:secret=***:mid-session=end"),
            ("token:secret-file=data/x", "token:secret-file=data/x"),
            ("jwt:api_key=abc", "jwt:api_key=***"),
            (r"relay:rtmp\://u:p@h/app/KEY", r"relay:rtmp\://u/***:***"),
            (r"relay:rtmp\://u\:p@h/app/KEY", r"relay:rtmp\://h/***"),
            (r"webhook:url=https\://h\:8080?x=KEY", r"webhook:url=https\://h\:8080/***"),
            ("local:/srv/live", "local:/srv/live"),
            ("x:secret=KEY\\", "***"),
        ):
            self.assertEqual(expected, mask_spec(text))


def _parts(spec: object) -> tuple[object, ...]:
    return tuple(getattr(spec, name) for name in ("name", "arguments", "options"))
