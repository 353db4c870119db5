"""The documentation: nothing is missing in the pages that are made of the code, and links lead somewhere."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.discovery import plugin_sections
from rapidrtmp.settings.model import app_settings, hook_rows
from tests.slow import slow
from tests.web.kit import Server

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
#: A metric where it is made: the name that it is given, with or without our prefix.
MADE = re.compile(
    r"(?:_counter|_gauge|\bcounter|\bgauge|\bhistogram|Counter|Gauge|Histogram|Info|MetricFamily)\(\s*\"([a-z0-9_]+)\""
)


@cache
def reference() -> ModuleType:
    """The extension that makes those pages."""
    sys.path.insert(0, str(DOCS))
    try:
        import reference as module
    finally:
        sys.path.remove(str(DOCS))
    return module


@slow  # it makes a server, to know what there is
class ReferenceTests(SynchronousTestCase):
    def test_every_setting_is_there(self) -> None:
        """Every setting has its row, with each of its names."""
        text = reference().settings_reference()
        for row in plugin_sections().rows():
            option = [f"`--{row.option}`"] if row.option else []
            for name in (f"**`{row.key}`**", f"`{row.environment_name}`", *map("`{}`".format, row.old_names), *option):
                self.assertIn(name, text)
        for key in [*app_settings(), *(row.key for row in hook_rows())]:
            self.assertIn(f"**`{key}`**", text)

    def test_every_route_is_there(self) -> None:
        """Every route of the server and its plugins has its heading."""
        text = reference().api_reference()
        headings = set(re.findall(r"^### `([A-Z]+) (/\S*)`$", text, re.MULTILINE))
        described = {
            (method.upper(), path)
            for path, methods in reference().description(contributions=Server().contributions)["paths"].items()
            for method in methods
        }
        self.assertLessEqual(described, headings)

    def test_every_metric_has_a_meaning(self) -> None:
        """Every metric that the code makes is in the table, with its meaning."""
        for name, _, meaning in reference().metrics():
            self.assertGreater(len(meaning.split()), 1, name)
        names = {name.removeprefix("rapidrtmp_") for name in reference().metric_names()}
        made = {
            name.removeprefix("rapidrtmp_")
            for path in (ROOT / "rapidrtmp").rglob("*.py")
            if "testing" not in path.parts
            for name in MADE.findall(path.read_text("utf-8"))
        }
        self.assertGreater(len(made), 50)
        known = {name.removesuffix("_info").removesuffix("_total") for name in names} | names
        known |= {name.removeprefix("storage_") for name in names}
        self.assertEqual(set(), made - known)

    def test_pages_have_no_unknown_reference(self) -> None:
        """Every place that a page leaves for a reference is filled."""
        pages = [path.read_text("utf-8") for path in DOCS.glob("*.md")]
        self.assertEqual(
            len(reference().REFERENCES),
            sum(len(re.findall(r"^<!-- reference: \w+ -->$", page, re.MULTILINE)) for page in pages),
        )
        for page in pages:
            self.assertNotIn("<!-- reference", reference().expand(page))


class LinkTests(SynchronousTestCase):
    def test_files_that_are_linked_exist(self) -> None:
        """What a document links to in this repository is there."""
        documents = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("benchmarks/*.md")]
        for path in documents:
            for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
                self.assertTrue((path.parent / target).exists(), f"{path.name}: {target}")

    @slow  # it reads all there is
    def test_documents_that_code_names_exist(self) -> None:
        """So is a page that a docstring or a message names."""
        for path in [*(ROOT / "rapidrtmp").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
            for name in re.findall(r"\bdocs/([a-z-]+\.md)\b", path.read_text("utf-8")):
                self.assertTrue((DOCS / name).exists(), f"{path}: docs/{name}")

    def test_index_leads_to_every_page(self) -> None:
        """The index leads to every page: to those that it does not name, at its end."""
        index = (DOCS / "index.md").read_text("utf-8")
        self.assertIn("\n<!-- others -->\n", index)
        pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
        self.assertEqual(pages, {line for line in index.splitlines() if line in pages} | {*reference().others(index)})
