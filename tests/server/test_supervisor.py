"""Tests of the supervisor: the sockets of workers, and what becomes of those that end, hang and are replaced."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server import supervisor
from rapidrtmp.server.supervisor import (
    SILENT_S,
    SupervisorService,
    listen_for_workers,
    worker_command,
)
from rapidrtmp.server.worker import ALIVE, LEAVING, READY, Supervision, Worker
from rapidrtmp.settings.model import ServerSettings
from rapidrtmp.tap import worker_count

LOOPBACK = "tcp:0:interface=127.0.0.1"


class SocketTests(SynchronousTestCase):
    def listen(self, description: str, count: int = 3) -> list[socket.socket]:
        opened = listen_for_workers(description, count)
        for each in opened:
            self.addCleanup(each.close)
        return opened

    def test_one_port_for_all(self) -> None:
        """Each worker has a socket of its own at the same port, and does not wait where there is none."""
        opened = self.listen(LOOPBACK)
        self.assertEqual(1, len({each.getsockname() for each in opened}))
        self.assertEqual(3, len({each.fileno() for each in opened}))
        for each in opened:
            self.assertRaises(BlockingIOError, each.accept)

    def test_port_of_another_server(self) -> None:
        """A port that another server has is not shared with it."""
        port = self.listen(LOOPBACK)[0].getsockname()[1]
        error = self.assertRaises(ConfigurationError, listen_for_workers, f"tcp:{port}:interface=127.0.0.1", 2)
        self.assertIn(f"cannot listen on tcp:{port}:interface=127.0.0.1: Address already in use", str(error))

    def test_unix_socket_is_shared(self) -> None:
        """A UNIX socket is one for all, in place of what a killed server has left there."""
        with tempfile.TemporaryDirectory() as folder:  # whose name is short enough
            path = Path(folder, "socket")
            for _ in range(2):
                opened = self.listen(f"unix:{path}:mode=600")
                self.assertEqual(1, len({each.fileno() for each in opened}))
                self.assertEqual(0o600, path.stat().st_mode & 0o777)

    def test_endpoint_that_cannot_be_shared(self) -> None:
        """An endpoint of another kind is refused, in one line."""
        for description in ("systemd:domain=INET:index=0", "tcp:x", "tcp:"):
            error = self.assertRaises(ConfigurationError, listen_for_workers, description, 2)
            self.assertNotIn("\n", str(error))


class ProcessDouble:
    """What stands for a process that was started."""

    def __init__(self, reactor: ReactorDouble, protocol: Any, arguments: list[str], descriptors: Any) -> None:
        self.protocol, self.arguments, self.descriptors = protocol, arguments, descriptors
        self.signals: list[str] = []
        self.orders = b""
        protocol.transport = self

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        self.orders += data

    def say(self, data: bytes) -> None:
        self.protocol.childDataReceived(3, data)

    def end(self, status: int = 0) -> None:
        reason = ProcessTerminated(status) if status else ProcessDone(0)
        self.protocol.processEnded(Failure(reason))

    @property
    def worker(self) -> Worker:
        return Worker.parse(self.arguments[self.arguments.index("--worker") + 1])


class ReactorDouble(Clock):
    """A clock that starts processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[ProcessDouble] = []
        self.afterwards: list[tuple[Any, ...]] = []
        self.stops = 0

    def addSystemEventTrigger(self, phase: str, event: str, call: Any, *arguments: Any) -> None:
        self.afterwards.append((phase, event, *arguments))

    def stop(self) -> None:
        self.stops += 1

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], env: Any, childFDs: Any) -> None:
        self.processes.append(ProcessDouble(self, protocol, args, childFDs))


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ReactorDouble()
        self.patch(supervisor, "memory_folder", self.make_folder)
        settings = ServerSettings(rtmp=(LOOPBACK,), http=(LOOPBACK,))
        self.supervisor = SupervisorService(self.reactor, settings, 2, lambda number: ["worker", f"{number}"])
        self.supervisor.startService()
        self.addCleanup(self.end)

    def make_folder(self, prefix: str) -> Path:
        self.folder = Path(self.mktemp()).absolute() / f"{prefix}x"
        self.folder.mkdir(parents=True)
        return self.folder

    def end(self) -> None:
        if self.supervisor.running:
            stopped = self.supervisor.stopService()
            for process in self.reactor.processes:
                if not process.protocol.ended.called:
                    process.end()
            self.successResultOf(stopped)

    def begin(self) -> tuple[ProcessDouble, ProcessDouble]:
        """Both workers, ready."""
        self.reactor.processes[0].say(ALIVE + READY)
        self.reactor.processes[1].say(READY)
        first, second = self.reactor.processes
        return first, second

    def test_first_worker_comes_first(self) -> None:
        """The first worker makes the files that all share; the others start when it is ready."""
        self.assertEqual([0], [process.worker.number for process in self.reactor.processes])
        self.reactor.processes[0].say(ALIVE)
        self.assertEqual(1, len(self.reactor.processes))
        _, second = self.begin()
        self.assertEqual((1, ["worker", "1"]), (second.worker.number, second.arguments[:-2]))

    def test_sockets_of_each_worker(self) -> None:
        """Each worker is given its own socket of every door, and the secret of all."""
        first, second = self.begin()
        for door in ("rtmp", "http"):
            ports = [process.worker.ports_of(door)[LOOPBACK] for process in (first, second)]
            given = [process.descriptors[port] for process, port in zip((first, second), ports, strict=True)]
            self.assertEqual(2, len(set(given)))
        self.assertEqual(first.worker.read_secret(), second.worker.read_secret())
        self.assertEqual(64, len(first.worker.read_secret()))

    def test_worker_that_ends(self) -> None:
        """A worker that ends is started again: at once at first, then later and later, until one has run for long."""
        first, _ = self.begin()
        with capturedLogs() as logs:
            first.end(9)
        self.assertEqual(1, sum("has ended" in event["log_format"] for event in logs))
        for pause_s in (0.1, 1.0, 2.0, 5.0):
            count = len(self.reactor.processes)
            self.reactor.advance(pause_s - 0.01)
            self.assertEqual(count, len(self.reactor.processes))
            self.reactor.advance(0.02)
            self.assertEqual(count + 1, len(self.reactor.processes))
            self.reactor.processes[-1].end(1)

    def test_first_worker_cannot_start(self) -> None:
        """When the first worker ends before it was ready the server ends, with that error, and is not tried again."""
        with capturedLogs() as logs:
            self.reactor.processes[0].end(1)
        self.assertTrue(any("cannot start" in event["log_format"] for event in logs))
        self.assertEqual((1, [("after", "shutdown", 1)]), (self.reactor.stops, self.reactor.afterwards))
        self.reactor.advance(100)
        self.assertEqual(1, len(self.reactor.processes))

    def test_worker_that_hangs(self) -> None:
        """A worker that says nothing any more is killed."""
        first, second = self.begin()
        for _ in range(3):
            self.reactor.advance(SILENT_S / 2)
            second.say(ALIVE)
        self.assertEqual((["KILL"], []), (first.signals, second.signals))

    def test_replaced_one_by_one(self) -> None:
        """At HUP one worker after the other is replaced; each ends when the new one lets clients in."""
        first, second = self.begin()
        self.supervisor.hang_up()
        third = self.reactor.processes[2]
        self.assertEqual((0, []), (third.worker.number, first.signals))
        third.say(READY)
        self.assertEqual(([], LEAVING), (first.signals, first.orders))
        fourth = self.reactor.processes[3]
        self.assertEqual((1, []), (fourth.worker.number, second.signals))
        first.end()
        fourth.say(READY)
        self.assertEqual(LEAVING, second.orders)
        for _ in range(4):
            self.assertEqual([], second.signals)
            self.reactor.advance(3)
            for process in (second, third, fourth):
                process.say(ALIVE)
        self.reactor.advance(3)
        self.assertEqual(["KILL"], second.signals)
        second.end(9)
        self.assertEqual(4, len(self.reactor.processes))
        self.assertEqual(([], []), (third.signals, fourth.signals))

    def test_stopping_ends_all(self) -> None:
        """Stopping ends all workers in order, and kills those that do not end in time."""
        first, second = self.begin()
        stopped = self.supervisor.stopService()
        self.assertEqual((["TERM"], ["TERM"], b""), (first.signals, second.signals, first.orders))
        first.end()
        self.reactor.advance(60)
        self.assertEqual((["TERM"], {"TERM", "KILL"}), (first.signals, set(second.signals)))
        second.end(9)
        self.successResultOf(stopped)
        self.assertFalse(self.folder.exists())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_logs_are_opened_anew(self) -> None:
        """What opens the log anew reaches every worker."""
        first, second = self.begin()
        self.supervisor.reopen_logs()
        self.assertEqual((["USR1"], ["USR1"]), (first.signals, second.signals))


class WorkerTests(SynchronousTestCase):
    def test_worker_says_how_it_is(self) -> None:
        """A worker says every second that it lives, and once that it is ready; it learns when it is to leave."""
        status, said = os.pipe()
        orders, speak = os.pipe()
        for each in (status, said, orders, speak):
            self.addCleanup(os.close, each)
        replaced: list[bool] = []
        clock: Any = Clock()
        clock.addReader = clock.removeReader = lambda _reader: None
        stopped: list[bool] = []
        clock.stop = lambda: stopped.append(True)
        link = Supervision(clock, Worker(0, "", {}, said, orders), lambda: replaced.append(True))
        link.start()
        clock.advance(1)
        link.ready()
        self.assertEqual(ALIVE + ALIVE + READY, os.read(status, 99))
        link.doRead()
        self.assertEqual([], replaced)
        os.write(speak, LEAVING)
        link.doRead()
        clock.advance(0)
        self.assertEqual(([True], [True]), (replaced, stopped))
        link.stop()
        self.assertEqual([], clock.getDelayedCalls())

    def test_command_of_a_worker(self) -> None:
        """A worker has the options of its supervisor, but for their number, and a log beside that one."""
        options = {"workers": "2", "http": ["tcp:80", "tcp:81"], "storage": "memory:", "config": "/etc/x.toml"}
        said = "--http tcp:80 --http tcp:81 --storage memory: --config /etc/x.toml"
        for number, path, own, flag in (
            (0, "/var/log/x.log", "/var/log/x-worker0.log", " --demo"),
            (1, "/var/log/x.log", "/var/log/x-worker1.log", ""),
            (0, None, "-", " --demo"),
        ):
            command = worker_command(options, path, number, demo=True)
            self.assertEqual(f"--logfile={own} {said}{flag}", " ".join(command[3:]))

    def test_what_is_no_worker(self) -> None:
        """``--worker`` with anything else is refused in one line."""
        for text in ("", "1", "{}", '{"number": 0, "x": 1}'):
            self.assertRaises(ConfigurationError, Worker.parse, text)

    def test_count_of_workers(self) -> None:
        """``auto`` is one for each core that the process may use."""
        self.assertEqual(3, worker_count(3))
        self.assertEqual(len(os.sched_getaffinity(0)), worker_count(None))
