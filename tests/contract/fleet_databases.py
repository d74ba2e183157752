"""Databases for tests: SQLite files, and a PostgreSQL cluster of our own in a temporary folder, without a network."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

_DEBIAN = Path("/usr/lib/postgresql")
_TIMEOUT_S = 60.0


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl: on the path, or where Debian keeps them."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("pg_ctl") is not None:
        return Path(found).parent
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def why_no_postgres() -> str | None:
    """None where a cluster can be started. The server refuses to run as root: then its own user is needed."""
    if binaries() is None:
        return "needs the programs of a PostgreSQL server (Debian: postgresql)"
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "needs the user postgres, as the tests run as root"
    return None


class Postgres:
    """A running cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def create(self, template: str = "template0") -> str:
        """The URL of a fresh database."""
        name = f"fleet{next(self._numbers)}"
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)


@contextmanager
def postgres(*, is_durable: bool = False) -> Iterator[Postgres]:
    programs = binaries()
    assert programs is not None
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="rkpg"))  # short: the path of a socket has at most 107 characters
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)

    def run(*command: str) -> None:
        with (folder / "commands.log").open("ab") as log:
            done = subprocess.run(
                [str(programs / command[0]), *command[1:]],
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_S,
                check=False,
            )
        assert done.returncode == 0, (folder / "commands.log").read_text()

    data = str(folder / "data")
    # Speed of the tests, not of PostgreSQL: a cluster that is thrown away need not outlive a power cut.
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync={'on' if is_durable else 'off'}"
    try:
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", data, "-w", "-t", "50", "-l", str(folder / "server.log"), "-o", options, "start")
        try:
            yield Postgres(folder)
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)
