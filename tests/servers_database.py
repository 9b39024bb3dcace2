"""PostgreSQL and MariaDB with certificates of an authority made for the test, and a relay that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import trustme
from servers import free_port, listens, program, running, service_folder


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's, another authority's, and a client's certificate with its key."""

    authority: Path
    other_authority: Path
    client: Path
    client_key: Path


@dataclass(frozen=True)
class TlsServer:
    """The server's certificate is for `localhost` only, so that 127.0.0.1 is another name."""

    port: int
    certificates: Certificates


def _certificates(folder: Path, user: str | None) -> Certificates:
    authority, other = trustme.CA(), trustme.CA()
    server, client = authority.issue_cert("localhost"), authority.issue_cert("client@test", common_name="certified")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    server.private_key_pem.write_to_path(folder / "server.key")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    for key in ("server.key", "client.key"):
        (folder / key).chmod(0o600)
    if user:
        shutil.chown(folder / "server.key", user)
    return Certificates(folder / "authority.pem", folder / "other.pem", folder / "client.pem", folder / "client.key")


def accepts(port: int) -> bool:
    """Whether it lets somebody in: while it starts, pg_isready takes the refusal of a plain connection for a yes."""
    try:
        psycopg.connect(f"postgresql://sentinel@127.0.0.1:{port}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def postgresql_tls() -> Iterator[TlsServer]:
    """Over TLS only: `sentinel` without a password, `certified` with the client's certificate, `secretive` with one."""
    with service_folder("postgresql-tls") as (folder, user):
        certificates = _certificates(folder, user)
        data, port = folder / "data", free_port()
        subprocess.run(
            [program("initdb"), "-D", data, "-U", "sentinel", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        (data / "pg_hba.conf").write_text(
            "hostssl all certified all trust clientcert=verify-full\nhostssl all sentinel all trust\n"
            "hostssl all secretive all scram-sha-256\n"
        )
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off -c ssl=on -c ssl_ca_file={certificates.authority}"
        options += f" -c ssl_cert_file={folder}/server.pem -c ssl_key_file={folder}/server.key"
        with running(
            [program("postgres"), "-D", str(data), *options.split()], folder=folder, user=user,
            ready=lambda: accepts(port),
        ):  # fmt: skip
            with psycopg.connect(f"postgresql://sentinel@127.0.0.1:{port}/postgres", autocommit=True) as connection:
                connection.execute("CREATE USER certified")
                connection.execute("CREATE USER secretive PASSWORD 'the right one'")
            yield TlsServer(port, certificates)


@contextmanager
def mariadb_tls() -> Iterator[TlsServer]:
    """`sentinel` needs TLS, `certified` the client's certificate, `secretive` the password `the right one`."""
    with service_folder("mariadb-tls") as (folder, user):
        certificates = _certificates(folder, user)
        data, port = folder / "data", free_port()
        subprocess.run(
            [program("mariadb-install-db"), "--no-defaults", f"--datadir={data}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        setup = folder / "setup.sql"
        setup.write_text(
            "CREATE DATABASE payments;\n"
            "CREATE USER sentinel@localhost REQUIRE SSL;\nGRANT SELECT ON *.* TO sentinel@localhost;\n"
            "CREATE USER secretive@localhost IDENTIFIED BY 'the right one';\n"
            "GRANT SELECT ON *.* TO secretive@localhost;\n"
            "CREATE USER certified@localhost REQUIRE X509;\nGRANT SELECT ON *.* TO certified@localhost;\n"
        )
        command = [
            program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={setup}",
            f"--ssl-ca={certificates.authority}", f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key",
        ]  # fmt: skip
        with running(command, folder=folder, user=user, ready=lambda: listens(port)):
            yield TlsServer(port, certificates)


@dataclass
class Relay:
    """A TCP port that leads to another. `most` is the number of bytes of answers after which a connection is cut."""

    port: int
    target: int
    most: int | None = None
    accepted: int = 0
    silent: threading.Event = field(default_factory=threading.Event)
    """While it is set nothing passes, and nobody is told."""

    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def cut(self) -> None:
        """End every connection, as a server that goes away."""
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            far = socket.create_connection(("127.0.0.1", self.target))
            self._pairs.append((near, far))
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while block := source.recv(8192):
                if self.silent.is_set():
                    continue
                passed += len(block)
                if answers and self.most is not None and passed > self.most:
                    break
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Relay(listener.getsockname()[1], target)
        thread = threading.Thread(target=found._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            found.cut()
            thread.join(5)
            for pair in found._pairs:
                for end in pair:
                    end.close()
