"""The start of the server as an operator sees it: beside another, after a kill, where nothing can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction

from twisted.trial.unittest import SkipTest

from tests.e2e.ffmpeg import FFMPEG, Clip
from tests.e2e.harness import SERVE, TWIST, TWISTD, EndToEndTest, eventually, new_folder, server_environment
from tests.e2e.watched import Watched

SHOW = Clip("show", seconds=60, frame_rate=Fraction(30), sample_rate=48_000, channels=2, size="640x360")
SETTINGS = '[hls]\nsegment = "1s"\n[live]\ngrace = "20s"\n'
#: A process number of its own for all that runs in it, from 1 on, as in a container.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
#: A view of the files in which the working folder cannot be written to.
_SEALED = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$@"'
READ_ONLY = ("unshare", "--mount", "sh", "-c", _SEALED, "sh")


def permitted(*prefix: str) -> Sequence[str]:
    """A command line prefix; the test is skipped where the host does not permit it."""
    if shutil.which(prefix[0]) is None:
        raise SkipTest(f"there is no {prefix[0]}")
    tried = subprocess.run([*prefix, "true"], cwd=new_folder("tried"), capture_output=True, text=True)
    if tried.returncode:
        raise SkipTest(f"{' '.join(prefix[:2])} is not permitted here: {tried.stderr.strip()}")
    return prefix


class PidFileTests(EndToEndTest):
    def test_two_in_one_folder(self) -> None:
        """Two servers in one folder do not ask each other for permission, and leave no pid file."""
        for program in (TWISTD, SERVE):
            folder = new_folder("shared")
            servers = [self.start_server(program=program, folder=folder) for _ in range(2)]
            for server in servers:
                self.assertEqual(200, server.get("/health").status)
            self.assertEqual([], list(folder.glob("*.pid")))
            for server in servers:
                server.stop()

    def test_pid_file_left_behind(self) -> None:
        """The server starts, whatever a `twistd.pid` that lies in its folder holds."""
        for program in (TWISTD, SERVE):
            for held in ("1", str(os.getpid()), "", "nonsense"):
                folder = new_folder("left-behind")
                (folder / "twistd.pid").write_text(held)
                server = self.start_server(program=program, folder=folder)
                self.assertEqual(held, (folder / "twistd.pid").read_text())
                server.kill()

    def test_process_1_is_started_again(self) -> None:
        """A server that is process 1, as in a container, is killed and started again, and its stream continues."""
        program = (*permitted(*CONTAINER), *TWISTD)
        server = self.start_server(SETTINGS, program=program)
        watched = Watched("mine")
        token = server.issue_token("mine")
        self.publish(FFMPEG, SHOW.path, token.publish_url)
        eventually("three segments", lambda: watched.has(server, 3))
        server.kill()
        again = self.start_again(server, program)
        self.publish(FFMPEG, SHOW.path, token.publish_url)
        eventually("two more", lambda: watched.has(again, 2, returned=True))
        self.assertEqual([], watched.broken)


class LocaleTests(EndToEndTest):
    def test_ascii_locale_loses_nothing(self) -> None:
        """In a locale that knows ASCII only the log has every line, with escapes for the rest, and so has all else."""
        locale = ("env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0")
        for program in (TWISTD, SERVE, TWIST):
            folder = new_folder("caf\xe9 \u20ac")
            server = self.start_server(program=(*locale, *program), folder=folder)
            server.stop()
            self.assertRegex(server.log, r"token secret is in .*caf(\\xe9|\\udcc3\\udca9) ")
            self.assertNotIn("Unable to", server.log)
            command = [*locale, *program, "--check-config", "--storage", "local:caf\xe9"]
            done = subprocess.run(command, cwd=folder, capture_output=True, env=server_environment())
            self.assertEqual((0, b""), (done.returncode, done.stderr))


class ReadOnlyFolderTests(EndToEndTest):
    def test_nothing_is_kept(self) -> None:
        """With its storage in memory the server starts in such a folder, and its tokens are good as long as it runs."""
        server = self.start_server(program=(*permitted(*READ_ONLY), *TWISTD), storage="memory:")
        self.assertTrue(server.issue_token("mine").token)
        self.assertIn("tokens are good until this server ends", server.log)
        server.stop()

    def test_starts_in_a_read_only_folder(self) -> None:
        """With its storage elsewhere the server starts in a folder that cannot be written to."""
        prefix = permitted(*READ_ONLY)
        for program in (TWISTD, SERVE):
            elsewhere = new_folder("elsewhere")
            settings = f'[tokens]\nsecret_file = "{elsewhere}/token.key"\n'
            self.start_server(settings, program=(*prefix, *program), storage=f"local:{elsewhere}/store").stop()
