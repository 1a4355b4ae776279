"""A real PostgreSQL in a folder of its own, ready for logical replication: started, killed, not left running.

Decides how it runs: the server programs of the machine, as an unprivileged user where we are root, on a free
port, without durability (its data is gone at the end). It refuses to run where there are no server programs.
"""

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from demo.ports import HOST, bound
from demo.watched import Watched
from sluice.errors import DemoServerError

USER, DATABASE = "test", "shop"
_PROGRAMS = Path("/usr/lib/postgresql")
_START_SECONDS = 60
_SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "fsync": "off",
    "timezone": "'UTC'",
    "track_commit_timestamp": "on",  # so that the database itself can say when a row was committed
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
}


def server_programs() -> Path:
    """Give the folder of PostgreSQL's server programs, the newest version's.

    Raises:
        DemoServerError: there are none.
    """
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    versions = [program.parent for program in _PROGRAMS.glob("*/bin/postgres")]
    if not versions:
        detail = "there are no server programs"
        raise DemoServerError("PostgreSQL", str(_PROGRAMS), detail, "install the package postgresql")
    return max(versions, key=lambda folder: float(folder.parent.name))


class Postgres(Watched):
    """PostgreSQL with an empty database `shop`, as a context manager or by `start` and `stop`.

    `settings` are lines of `postgresql.conf`. Its folder is of its own making, open to the user that it runs
    as, and deleted by `stop`.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="sluice-postgres-")), "PostgreSQL", ask="INT")
        self.port = 0
        self._given = dict(settings or {})

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def dsn(self) -> str:
        """Where it answers, as a URI."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start it, and return when it answers; after `kill` it recovers what it had.

        Raises:
            DemoServerError: there are no server programs, or it dies, or does not answer in time.
        """
        programs = server_programs()
        atexit.register(self.stop)
        data = self.folder / "data"
        if not data.exists():
            self._make(programs, data)
        (data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        command = [*self._as_user(), str(programs / "postgres"), "-D", str(data), "-p", str(self.port)]
        self.launch_command(command)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self._at("postgres"), connect_timeout=5).close()
                break
            if not self.running:
                raise self.failed("it ended")
            if time.monotonic() > deadline:
                raise self.failed(f"no answer within {_START_SECONDS} s")
            time.sleep(0.05)
        with psycopg.connect(self._at("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def stop(self) -> None:
        """Stop it, and forget all that it held."""
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def connect(self, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
        """Open a connection to its database."""
        return psycopg.connect(self.dsn, **options)

    def _make(self, programs: Path, data: Path) -> None:
        """Make its data folder, and take a port that nobody listens on."""
        with bound() as probe:
            self.port = probe.getsockname()[1]
        self.folder.chmod(0o755)
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(data, user.pw_uid, user.pw_gid)
        command = [*self._as_user(), str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if made.returncode:
            raise self.failed(f"its folder cannot be made: {made.stderr}")
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in (_SETTINGS | self._given).items())

    @staticmethod
    def _as_user() -> list[str]:
        """Give what runs a command as the user `postgres`: the server refuses to run as root."""
        if os.geteuid():
            return []
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def _at(self, database: str) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"
