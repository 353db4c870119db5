"""A recorder of a third party, with a name, a package and a section of settings of its own, as its author writes it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install_archive", "setup_script"]

ENTRY = """
from rapidrtmp.discovery import SinkPlugin

archive = SinkPlugin(
    "archive", "Records as the archive wants it", "{package}.ArchiveFactory", "{package}.settings.ArchiveSettings"
)
"""
PACKAGE = '''
from zope.interface import implementer

from rapidrtmp.interfaces import Contribution, IContributes, IRecorderFactory, IStoringSinkFactory, Purpose
from rapidrtmp.interfaces import Audience, RetentionRules, Route, json_response
from rapidrtmp.recording.sink import RecorderFactory

DAY_MS = 86_400_000


@implementer(IRecorderFactory, IStoringSinkFactory, IContributes)
class ArchiveFactory:
    """Records in segments of a second."""

    purpose = Purpose.RECORDINGS

    def __init__(self, most: str = "0", keep_days: str = "0") -> None:
        self.retention = RetentionRules(age_ms=int(keep_days) * DAY_MS, max_bytes=int(most))
        self._recorders = RecorderFactory(segment="1s")

    def create(self, context):
        return self._recorders.create(context)

    def contribute(self, context):
        def answer(_request):
            return json_response({"place": context.section("archive").place})

        return Contribution(routes=[Route("GET", "/api/v1/archive", Audience.MANAGEMENT, answer)])
'''
SETTINGS = '''
from dataclasses import dataclass

from rapidrtmp.interfaces import Outcome, setting


@dataclass(frozen=True)
class ArchiveSettings:
    """What the recorder ``archive`` does where its spec does not say."""

    keep_days: int = setting(7, "Days that recordings are kept; 0 for ever", when_changed=Outcome.FOR_NEW_STREAMS)
    pause_ms: int = setting(500, "Pause between two uploads")
    place: str = setting("shelf", "Where they lie", choices=("shelf", "vault"), when_changed=Outcome.APPLIED)
    password: str = setting("", "What opens the vault", secret=True)

    def __post_init__(self) -> None:
        if self.place == "vault" and not self.password:
            raise ValueError("a vault needs a password")
'''


def install_archive(package: str, code: Path, entry: Path) -> None:
    """Write the package into the folder ``code``, and its table of contents into the file ``entry``."""
    (code / package).mkdir(parents=True)
    (code / package / "__init__.py").write_text(PACKAGE)
    (code / package / "settings.py").write_text(SETTINGS)
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(ENTRY.format(package=package))


def setup_script(package: str, entry_module: str) -> str:
    """The ``setup.py`` that makes it a package with an entry point."""
    return (
        "from setuptools import setup\n\n"
        f"setup(name='rapidrtmp-{package}', version='1.0', packages=['{package}'], py_modules=['{entry_module}'],\n"
        f"      entry_points={{'rapidrtmp': ['archive = {entry_module}:archive']}})\n"
    )
