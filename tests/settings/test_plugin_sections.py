"""Sections of settings that plugins bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import setting
from rapidrtmp.settings.model import Settings
from rapidrtmp.settings.sources import Loaded, PluginSections, load_settings


def _is_even(value: int) -> None:
    if value % 2:
        raise ValueError(f"{value} is odd: an even number is wanted")


@dataclass(frozen=True)
class ArchiveSettings:
    keep_days: int = setting(7, "Days that recordings are kept", minimum=1)
    pause_ms: int = setting(500, "Pause between two uploads")
    lease_s: int = setting(60, "How long a lease lasts")
    part_bytes: int = setting(1 << 20, "What is uploaded at once")
    uploads: int | None = setting(None, "Uploads at once")
    share: float = setting(0.5, "Share of the line that it may take")
    packed: bool = setting(False, "Whether what lies there is packed")
    place: str = setting("shelf", "Where they lie", choices=("shelf", "vault"))
    copies: int = setting(2, "How many of each", check=_is_even)
    hosts: tuple[str, ...] = setting((), "Where to")
    password: str = setting("", "What opens the vault", secret=True)

    def __post_init__(self) -> None:
        if self.place == "vault" and not self.password:
            raise ValueError("a vault needs a password")


SECTIONS = PluginSections({"archive": ArchiveSettings}, "the pockets of the author")


class SectionCase(SynchronousTestCase):
    def load(self, toml: str = "", **environment: str) -> Loaded:
        path = Path(self.mktemp())
        path.write_text(toml, "utf-8")
        return load_settings({}, environment, path, SECTIONS)

    def archive(self, toml: str = "", **environment: str) -> ArchiveSettings:
        archive: ArchiveSettings = self.load(toml, **environment).settings.section("archive")
        return archive

    def refusal(self, toml: str = "", **environment: str) -> str:
        """The one line that such settings are refused with."""
        line = str(self.assertRaises(ConfigurationError, self.load, toml, **environment))
        self.assertNotIn("\n", line)
        return line


class LoadTests(SectionCase):
    def test_nothing_said_means_defaults(self) -> None:
        """With nothing said, the section is what its class has by default."""
        loaded = self.load()
        self.assertEqual({"archive": ArchiveSettings()}, loaded.settings.sections)
        self.assertEqual("default", loaded.provenance["archive.keep_days"])

    def test_file_and_environment(self) -> None:
        """Every key can be said by the file and by the environment, in its unit, and the environment is stronger."""
        said = (
            ("keep_days", "9", 9),
            ("pause", "2s", 2000),
            ("lease", "2m", 120),
            ("part", "64k", 65536),
            ("uploads", "3", 3),
            ("share", "0.25", 0.25),
            ("packed", "true", True),
            ("copies", "4", 4),
            ("password", "hidden", "hidden"),
        )
        fields = {"pause": "pause_ms", "lease": "lease_s", "part": "part_bytes"}
        for key, text, value in said:
            field_name = fields.get(key, key)
            self.assertEqual(value, getattr(self.archive(f"[archive]\n{key} = '{text}'"), field_name), key)
            environment = {f"RAPIDRTMP_ARCHIVE_{key.upper()}": text}
            self.assertEqual(value, getattr(self.archive(**environment), field_name), key)
        self.assertEqual(("a", "b"), self.archive("[archive]\nhosts = ['a', 'b']").hosts)
        self.assertEqual(("a", "b"), self.archive(RAPIDRTMP_ARCHIVE_HOSTS="a b").hosts)
        self.assertEqual(8, self.archive("[archive]\nkeep_days = 9\n", RAPIDRTMP_ARCHIVE_KEEP_DAYS="8").keep_days)

    def test_values_of_toml(self) -> None:
        """Numbers and truths are written as such, too."""
        archive = self.archive("[archive]\nkeep_days = 9\npacked = true\nshare = 0.25\nuploads = 'auto'\n")
        self.assertEqual((9, True, 0.25, None), (archive.keep_days, archive.packed, archive.share, archive.uploads))

    def test_rendered_section_reads_back(self) -> None:
        """What is shown reads back as the same, says where each value came from, and shows no secret."""
        loaded = self.load("[archive]\nplace = 'vault'\nhosts = ['a']\n", RAPIDRTMP_ARCHIVE_PASSWORD="hidden")
        printed = loaded.render()
        self.assertRegex(printed, r"(?m)^keep_days = 7 +# default$")
        self.assertRegex(printed, r'(?m)^password = "\*\*\*" +# environment RAPIDRTMP_ARCHIVE_PASSWORD$')
        again = self.load(printed, RAPIDRTMP_ARCHIVE_PASSWORD="hidden").settings
        self.assertEqual(loaded.settings, again)
        self.assertNotIn("hidden", printed + repr(loaded.settings))


class RefusalTests(SectionCase):
    def test_bad_values_stop_the_start(self) -> None:
        """A bad value stops the start with its key, its source and what would be right."""
        for key, text, words in (
            ("keep_days", "0", "'0' is not a whole number, 1 or more"),
            ("pause", "2x", "'2x' is not a duration such as"),
            ("uploads", "many", "or auto"),
            ("share", "half", "'half' is not a number such as 0.5"),
            ("packed", "maybe", "neither true nor false"),
            ("place", "attic", "'attic' is not shelf or vault"),
            ("copies", "3", "3 is odd: an even number is wanted"),
        ):
            name = f"RAPIDRTMP_ARCHIVE_{key.upper()}"
            line = self.refusal(**{name: text})
            self.assertTrue(line.startswith(f"archive.{key} (environment {name}): "), line)
            self.assertIn(words, line)

    def test_values_refused_together(self) -> None:
        """Values that do not go together are refused by the section, which is named."""
        self.assertEqual("[archive]: a vault needs a password", self.refusal("[archive]\nplace = 'vault'\n"))

    def test_unknown_key_names_its_neighbour(self) -> None:
        """An unknown key of a known section is refused with its neighbour."""
        self.assertIn("[archive] has no key keep_day; did you mean keep_days?", self.refusal("[archive]\nkeep_day = 1"))
        self.assertIn("mean RAPIDRTMP_ARCHIVE_KEEP_DAYS?", self.refusal(RAPIDRTMP_ARCHIVE_KEEP_DAY="1"))

    def test_unknown_section_is_refused(self) -> None:
        """A section that no plugin brings is refused with where plugins were looked for."""
        line = self.refusal("[archvie]\nkeep_days = 1\n")
        self.assertIn("there is no section [archvie]; did you mean archive?", line)
        self.assertTrue(line.endswith("; plugins may bring others: looked in the pockets of the author"), line)
        self.assertIn("looked in the pockets of the author", self.refusal(RAPIDRTMP_VAULT_DEPTH="1"))


class DeclarationTests(SynchronousTestCase):
    def refusal(self, **classes: Any) -> str:
        return str(self.assertRaises(ConfigurationError, PluginSections, classes))

    def section(self, **declared: Any) -> type:
        return make_dataclass("Section", [(name, Any, each) for name, each in declared.items()], frozen=True)

    def test_sections_that_cannot_be(self) -> None:
        """What cannot be a section stops the start, and says why."""
        good = self.section(depth=setting(1, "Depth"))
        cases: Mapping[str, Mapping[str, Any]] = {
            "[server] is a section of the server itself": {"server": good},
            "[apps] is a section of the server itself": {"apps": good},
            "[hooks] is a section of the server itself": {"hooks": good},
            "'a b' cannot be the name of a section": {"a b": good},
            "is not a dataclass of settings": {"vault": object},
            "[vault]: depth must be declared by setting()": {"vault": self.section(depth=field(default=1))},
            "[vault]: depth has a default of bytes": {"vault": self.section(depth=setting(b"", "Depth"))},
            "RAPIDRTMP_A_B_DEPTH would set both a.b_depth and a_b.depth": {
                "a": self.section(b_depth=setting(1, "Depth")),
                "a_b": good,
            },
        }
        for said, classes in cases.items():
            self.assertIn(said, self.refusal(**classes))

    def test_dashes_become_underscores(self) -> None:
        """The section of a plugin with a dash in its name has an underscore there in the environment."""
        plugins = PluginSections({"gop-meter": self.section(limit=setting(1, "Largest GOP"))})
        settings = load_settings({}, {"RAPIDRTMP_GOP_METER_LIMIT": "5"}, None, plugins).settings
        self.assertEqual(5, settings.section("gop-meter").limit)

    def test_own_sections_stay(self) -> None:
        """The server's own settings are what they are without plugins."""
        self.assertEqual(
            Settings(sections={"archive": ArchiveSettings()}), load_settings({}, {}, None, SECTIONS).settings
        )
