from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from rapidrtmp.directory.single import SingleDirectoryFactory
from rapidrtmp.interfaces import IOwnerDirectory
from rapidrtmp.testing.directory import DirectoryContract, directory_context


class SingleDirectoryTests(DirectoryContract, TestCase):
    """The contract of a directory of one node."""

    def open_directory(self, node: str) -> Deferred[IOwnerDirectory]:
        return SingleDirectoryFactory().open(directory_context(node))
