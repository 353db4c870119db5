"""Real reverse proxies before a real server: what they lend to their clients, and what they do not."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.harness import Answer, EndToEndTest, Server, eventually, fetch, free_port, new_folder

PUBLISH = json.dumps({"streamKey": "demo"})
PATHS = (("GET", "/api/v1/streams"), ("GET", "/metrics"), ("POST", "/api/v1/publish"), ("GET", "/api/v1/recordings"))


def _program(name: str) -> str:
    """A proxy that is installed, which can be run as a user of its own."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SkipTest(f"{name} is not installed")
    if os.geteuid() != 0:
        raise SkipTest("only root can run a proxy as another user")
    return found


def _other_user() -> str:
    for name in ("www-data", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise SkipTest("there is neither www-data nor nobody")


class ProxyTests(EndToEndTest):
    """A proxy on the same machine, under a user of its own, opens nothing but what is public."""

    def start(self, command: Sequence[str], port: int) -> str:
        """The address of a proxy that is gone after the test."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def is_open() -> bool:
            self.assertIsNone(process.poll(), "the proxy has ended")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually("the proxy to listen", is_open)
        return f"http://127.0.0.1:{port}"

    def nginx(self, server: Server, *directives: str, user: str = "") -> str:
        """nginx before a server, with these directives in its location."""
        program, port, folder = _program("nginx"), free_port(), Path(tempfile.mkdtemp(prefix="nginx-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        temporary = " ".join(f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy"))
        lines = " ".join(f"{line};" for line in directives)
        (folder / "nginx.conf").write_text(
            f"user {user or _other_user()}; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
            f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; "
            f"location / {{ proxy_pass {server.root}; {lines} }} }} }}"
        )
        return self.start([program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"], port)

    def haproxy(self, server: Server, mode: str, *directives: str, send: str = "") -> str:
        """HAProxy before a server."""
        program, port, folder = _program("haproxy"), free_port(), new_folder("haproxy")
        lines = "\n  ".join(directives)
        (folder / "haproxy.cfg").write_text(
            f"global\n  user {_other_user()}\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 30s\n"
            f"  timeout server 30s\nlisten front\n  bind 127.0.0.1:{port}\n  {lines}\n"
            f"  server media {server.root.removeprefix('http://')} {send}\n"
        )
        return self.start([program, "-q", "-db", "-f", str(folder / "haproxy.cfg")], port)

    def ask(self, root: str, **headers: str) -> list[Answer]:
        return [
            fetch(root + path, method=method, body=PUBLISH if method == "POST" else None, **headers)
            for method, path in PATHS
        ]

    def check_closed(self, server: Server, root: str) -> None:
        """Without the secret nothing is managed through a proxy, under whatever name; with it all, as without proxy."""
        for host in ({}, {"Host": "localhost"}, {"Host": server.root.removeprefix("http://")}):
            self.assertEqual([401] * 4, [answer.status for answer in self.ask(root, **host)], host)
        secret = (server.folder / "data" / "api.key").read_text().strip()
        answers = self.ask(root, Authorization=f"Bearer {secret}")
        self.assertEqual([200] * 4, [answer.status for answer in answers])
        self.assertEqual([200] * 4, [answer.status for answer in self.ask(server.root)])
        self.assertEqual(200, fetch(f"{root}/ready").status)
        self.assertEqual(200, fetch(f"{root}/live/demo").status)
        self.assertNotIn(secret, server.log)

    def test_nginx_clients_need_the_secret(self) -> None:
        """nginx with nothing but proxy_pass, with the name its client asks for, and with the usual fields."""
        server = self.start_server()
        self.check_closed(server, self.nginx(server))
        self.check_closed(server, self.nginx(server, "proxy_set_header Host $host"))
        self.check_closed(server, self.nginx(server, "proxy_set_header Host $http_host", "proxy_http_version 1.1"))
        usual = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for"
        self.check_closed(server, self.nginx(server, "proxy_set_header Host $host", usual))
        server.stop()

    def test_haproxy_clients_need_the_secret(self) -> None:
        """HAProxy that reads HTTP, and HAProxy that hands on bytes."""
        server = self.start_server()
        self.check_closed(server, self.haproxy(server, "http"))
        self.check_closed(server, self.haproxy(server, "http", "option forwardfor"))
        self.check_closed(server, self.haproxy(server, "tcp"))
        server.stop()

    def test_haproxy_with_proxy_headers_opens_nothing(self) -> None:
        """HAProxy that says by either version of the PROXY header for whom it hands on bytes, and is believed."""
        server = self.start_server('[server]\nproxy_protocol = ["127.0.0.0/8"]\n')
        for send in ("send-proxy", "send-proxy-v2"):
            self.check_closed(server, self.haproxy(server, "tcp", send=send))
        server.stop()

    def test_proxy_of_the_same_user(self) -> None:
        """A proxy of the server's own user that says it is one opens nothing either."""
        server = self.start_server()
        own = pwd.getpwuid(os.geteuid()).pw_name
        root = self.nginx(server, "proxy_set_header X-Real-IP $remote_addr", user=own)
        self.check_closed(server, root)
        server.stop()

    def test_distrust_asks_every_client(self) -> None:
        """Where the server's own user is not trusted every client needs the secret."""
        server = self.start_server("[server]\ntrust_own_user = false\n")
        self.assertEqual([401] * 4, [answer.status for answer in self.ask(server.root)])
        server.stop()

    def test_client_that_leaves(self) -> None:
        """A client that leaves before it is answered, and whose proxy closes at once, has not stopped a stream."""
        server = self.start_server()
        root = self.nginx(server)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", int(root.rpartition(":")[2]))) as client:
                client.sendall(b"POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n\r\n")
                client.sendall(PUBLISH.encode())
        self.assertEqual(200, fetch(f"{root}/ready").status)
        counted = re.compile(r'rapidrtmp_http_requests_total\{route="/api/v1/publish",status="(\d+)"\}')
        self.assertEqual(set(), set(counted.findall(server.get("/metrics").text)) - {"401", "499"})
        server.stop()


class DirectTests(EndToEndTest):
    """The server's own user, without a proxy."""

    def curl(self, *arguments: str) -> str:
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        asked = subprocess.run([curl, "-s", *arguments], capture_output=True, text=True, timeout=30)
        return asked.stdout

    def test_readme_lines_work_here(self) -> None:
        """The lines of the README work as they stand, by each name of this machine."""
        server = self.start_server()
        port = server.root.rpartition(":")[2]
        for host in ("localhost", "127.0.0.1"):
            said = json.loads(self.curl(f"{host}:{port}/api/v1/publish", "-d", PUBLISH))
            self.assertIn("token", said)
            server.tokens.append(said["token"])
            self.assertIn("streams", self.curl(f"{host}:{port}/api/v1/streams"))
            self.assertIn("rapidrtmp_", self.curl(f"{host}:{port}/metrics"))
        server.stop()

    def test_another_user_needs_the_secret(self) -> None:
        """Another user of this machine needs the secret."""
        server = self.start_server()
        curl = shutil.which("curl")
        if curl is None or os.geteuid() != 0:
            raise SkipTest("only root can run curl as another user")
        command = [curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{server.root}/api/v1/streams"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, user=_other_user(), cwd="/")
        self.assertEqual("401", asked.stdout)
        server.stop()

    def test_unix_socket_knows_the_user(self) -> None:
        """At a UNIX socket the kernel knows the user as well."""
        server = self.start_server("[server]\nmanage = ['unix:manage.sock']\n")
        path = server.folder / "manage.sock"
        os.chmod(path, 0o777)
        asked = ("--unix-socket", str(path), "-w", "%{http_code}", "-o", "/dev/null", "http://localhost/api/v1/streams")
        self.assertEqual("200", self.curl(*asked))
        self.assertEqual(404, server.get("/api/v1/streams").status)
        server.stop()

    def test_proxy_header_is_not_believed(self) -> None:
        """A PROXY header that claims a connection of the server's own user is not believed."""
        port = free_port()
        server = self.start_server(f"[server]\nmanage = ['haproxy:tcp:{port}:interface=127.0.0.1']\n")
        with socket.create_connection(("127.0.0.1", int(server.root.rpartition(":")[2]))) as ours:
            (here, from_port), (there, to_port) = ours.getsockname(), ours.getpeername()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as claiming:
                claim = f"PROXY TCP4 {here} {there} {from_port} {to_port}\r\n"
                asked = "GET /api/v1/streams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                claiming.sendall((claim + asked).encode())
                self.assertIn(b" 401 ", claiming.recv(4096).partition(b"\r\n")[0])
        server.stop()


class EncryptedTests(EndToEndTest):
    """The server's own user over TLS."""

    def test_versions_of_http_over_tls(self) -> None:
        """The user is known over HTTP/1.1 and HTTP/2 with TLS."""
        openssl, curl = shutil.which("openssl"), shutil.which("curl")
        if openssl is None or curl is None:
            raise SkipTest("openssl or curl is not installed")
        self.assertTrue(ssl.HAS_ALPN)
        folder, port = new_folder("certificate"), free_port()
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
        subprocess.run([openssl, *made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        server = self.start_server(f"[server]\nmanage = ['ssl:{port}:privateKey={key}:certKey={certificate}']\n")
        url = f"https://localhost:{port}/api/v1/streams"
        for version in ("--http1.1", "--http2"):
            command = [curl, "-sk", version, "-o", "/dev/null", "-w", "%{http_code}", url]
            asked = subprocess.run(command, capture_output=True, text=True, timeout=30)
            self.assertEqual("200", asked.stdout, version)
        server.stop()
