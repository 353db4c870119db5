"""The words that the project does not use: in docstrings, comments, log lines and pages."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
#: Each with what is said instead.
INSTEAD = {
    r"can not": "cannot",
    r"who(m)?ever": "the peer, the client, the caller, the author of …",
    r"(some|no|every|any)body('s)?": "the peer, the client, the player, no one …",
    r"octets?": "bytes",
    r"(go|goes|going|gone|went) on": "continue",
    r"told": "a verb that says what happens: is notified, gets, is shown, is reported, distinguished …",
}
BANNED = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
#: Names that others have given, the last one that of an account, and one of ours that is gone.
QUOTED = re.compile(r"application/octet-stream|``octets``|\"nobody\"|nor nobody", re.IGNORECASE)
DOCUMENTS = ("*.md", "docs/*.md", "benchmarks/*.md", "changelog.d/*.rst", "deploy/**/*")
TEST_NAME = re.compile(r"^    (?:async )?def (test_\w+)", re.MULTILINE)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of prose: of a module those in its strings and comments, of another file all."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield from enumerate(token.string.splitlines(), token.start[0])


def found_in(path: Path) -> list[str]:
    """The places in a file where one of the words is."""
    if not BANNED.search(path.read_text("utf-8")):  # as in nearly all: to split a module into tokens takes long
        return []
    return [
        f"{path.relative_to(ROOT)}:{number}: {word[0]!r}"
        for number, line in prose(path)
        for word in BANNED.finditer(QUOTED.sub("", line))
    ]


class WordTests(SynchronousTestCase):
    def assert_plain(self, *places: Path) -> None:
        """Hold files to the list."""
        found = [each for place in sorted(places) for each in found_in(place)]
        self.assertEqual([], found, "Say it otherwise: tests/test_words.py has the list")

    def test_server_speaks_plainly(self) -> None:
        """The server, what it logs, and its pages are in plain words."""
        files = (path for kind in ("py", "js", "html") for path in (ROOT / "rapidrtmp").rglob(f"*.{kind}"))
        self.assert_plain(*(path for path in files if not path.name.endswith(".min.js")))  # which is fetched

    def test_tests_speak_plainly(self) -> None:
        """So are tests, benchmarks, fuzz targets and what builds the documentation."""
        here = Path(__file__)
        places = (path for name in ("tests", "benchmarks", "docs", "fuzz") for path in (ROOT / name).rglob("*.py"))
        self.assert_plain(*(path for path in places if path != here))

    def test_documents_speak_plainly(self) -> None:
        """So are all documents, the news, and what is deployed."""
        documents = (path for pattern in DOCUMENTS for path in ROOT.glob(pattern) if path.is_file())
        self.assert_plain(*documents)

    def test_names_of_tests_say_something(self) -> None:
        """The name of every test has three words or more."""
        modules = sorted((ROOT / "tests").rglob("test_*.py"))
        names = [(path, name) for path in modules for name in TEST_NAME.findall(path.read_text("utf-8"))]
        self.assertEqual([], [f"{path.relative_to(ROOT)}: {name}" for path, name in names if name.count("_") < 3])

    def test_words_are_found_in_prose(self) -> None:
        """A word is found in strings and comments, and not as a name of the code."""
        module = Path(self.mktemp())
        module.write_text('told = 1  # somebody told me\n"""We can not\ngo on."""\n')
        module = module.rename(module.with_suffix(".py"))
        words = [word[0] for _, line in prose(module) for word in BANNED.finditer(line)]
        self.assertEqual(["somebody", "told", "can not", "go on"], words)
