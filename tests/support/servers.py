"""Private MariaDB and PostgreSQL servers for tests and benchmarks, each in its own folder on a free port.

    with start_mariadb() as server:
        database = server.new_database()
        database.execute("CREATE TABLE t (id INT)")

The fixtures `mariadb` and `postgres` in conftest.py start one of each per test process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

from support import kept_connections
from support.emptied_database import empty
from support.kinds import refuse_in_fast
from support.process_tree import children, is_alive
from support.quick_passwords import scram_verifier

HOST = "127.0.0.1"
USER = "mlops"
# Hostile on purpose: whoever builds a URI or a connection string has to escape it.
PASSWORD = "s3cr:et@pa/ss %41+é"
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 20.0

Engine = Literal["mysql", "postgres"]

# Its own seed, whatever a test does to the shared one: processes side by side must not draw the same ports.
_BELOW_EPHEMERAL_PORTS = random.SystemRandom()
_MOST_PROCESSES = 16  # of a test run
_given: set[int] = set()
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MOST_PROCESSES

# Nothing is kept, and to write down all tables of a test run takes many seconds. At SIGQUIT, PostgreSQL
# writes nothing either, but ends its processes and removes the memory that they share.
_STOP_SIGNAL = {"mysql": signal.SIGKILL, "postgres": signal.SIGQUIT}

# Started beside every server, with its folder as $0. It is told "signal pid" once the server runs and an
# empty line once it has ended; its input ends with our process, even a killed one. Nothing stays behind then.
_CARETAKER = """
while read -r how pid; do server=$pid stop=$how; done
for _ in $(seq 100); do
    if [ -z "$server" ] || ! kill -s "$stop" "$server"; then rm -r "$0" && exit; fi
    stop=0
    sleep 0.2
done
kill -s KILL "$server"
rm -r "$0"
"""


class ServerError(Exception):
    """A server cannot be started here; the message names what to install or the log's last lines."""


@dataclass(frozen=True)
class ServerDatabase:
    """One empty database on a running server, and every way to write down its address."""

    engine: Engine
    host: str
    port: int
    user: str
    password: str
    database: str

    def airflow_uri(self, conn_type: str | None = None) -> str:
        """The value of an `AIRFLOW_CONN_...` variable: of the engine's own type, or `odbc`."""
        conn_type = conn_type or self.engine
        query = f"?driver={quote(self.odbc_driver)}" if conn_type == "odbc" else ""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{conn_type}://{login}@{self.host}:{self.port}/{self.database}{query}"

    @property
    def odbc_driver(self) -> str:
        """The driver's name as Debian's odbc-mariadb and odbc-postgresql register it."""
        return "MariaDB Unicode" if self.engine == "mysql" else "PostgreSQL Unicode"

    def odbc_connection_string(self) -> str:
        """For ODBC clients that know nothing of this project."""
        address = f"SERVER={self.host};PORT={self.port};DATABASE={self.database}"
        return f"DRIVER={{{self.odbc_driver}}};{address};UID={self.user};PWD={{{self.password}}}"

    def sqlalchemy_url(self) -> str:
        """For SQLAlchemy with the drivers of the lock file."""
        driver = "mysql+mysqlconnector" if self.engine == "mysql" else "postgresql+psycopg2"
        return self.airflow_uri(driver)

    def connect(self) -> Any:
        """A DB-API connection in autocommit mode, by a driver that the project does not use for rows."""
        if self.engine == "mysql":
            import pymysql  # type: ignore[import-untyped]

            return pymysql.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password.encode(),
                database=self.database,
                charset="utf8mb4",
                autocommit=True,
            )
        import psycopg2  # type: ignore[import-untyped]

        connection = psycopg2.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=self.database
        )
        connection.autocommit = True
        return connection

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """A cursor of such a connection, and nothing of either is left to the next."""
        if self.engine == "mysql":
            with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
                yield cursor
            return
        connection = kept_connections.take(self.port, self.database, self.connect)
        try:
            with connection.cursor() as cursor:
                yield cursor
        except BaseException:
            connection.close()
            raise
        kept_connections.give_back(self.port, self.database, connection)

    def execute(self, *statements: str) -> None:
        """Run statements one by one, each committed at once."""
        with self.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What another client sees now."""
        with self.cursor() as cursor:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    def dump(self, file: Path) -> None:
        """Write what PostgreSQL's database holds as SQL, for `load`."""
        self._run_client("pg_dump", f"--file={file}")

    def load(self, file: Path) -> None:
        """Fill PostgreSQL's empty database from a file of `dump`."""
        self._run_client("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={file}")

    def _run_client(self, program: str, *arguments: str) -> None:
        address = [f"--host={self.host}", f"--port={self.port}", f"--username={self.user}"]
        command = [_postgres_binary(program), *address, f"--dbname={self.database}", *arguments]
        _run(command, PGPASSWORD=self.password)


@dataclass
class Server:
    """A running server that belongs to this process."""

    engine: Engine
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._administrator: Any = None
        self.taken_back: list[ServerDatabase] = []  # the oldest first

    def new_database(self) -> ServerDatabase:
        """An empty database that no other test has, under a name that none has had."""
        with self._administering() as cursor:
            if self.taken_back:
                used, database = self.taken_back.pop(0), self.database(f"db{next(self._numbers)}")
                outcome = empty(cursor, used, database.database)
                if outcome == "empty":
                    return database
                if outcome == "busy":
                    self.taken_back.append(used)
            database = self.database(f"db{next(self._numbers)}")
            cursor.execute(f"CREATE DATABASE {database.database}")
        return database

    @contextmanager
    def _administering(self) -> Iterator[Any]:
        """A cursor of a connection that is kept for the next time."""
        self._administrator = self._administrator or self.administration.connect()
        try:
            with self._administrator.cursor() as cursor:
                yield cursor
        except BaseException:  # it may have ended
            self._forget_administrator()
            raise

    def _forget_administrator(self) -> None:
        administrator, self._administrator = self._administrator, None
        if administrator is not None:
            with contextlib.suppress(Exception):  # the server may have ended before
                administrator.close()

    def take_back(self, database: ServerDatabase) -> None:
        """Keep a database that its test has done with; MariaDB makes new ones for next to nothing."""
        if self.engine == "postgres":
            kept_connections.let_go(self.port, database.database)
            self.taken_back.append(database)

    @property
    def administration(self) -> ServerDatabase:
        """The database that the server brings along."""
        return self.database("mysql" if self.engine == "mysql" else "postgres")

    def database(self, name: str) -> ServerDatabase:
        """The address of a database of this name, whether or not it exists."""
        return ServerDatabase(self.engine, HOST, self.port, USER, PASSWORD, name)

    def kill(self) -> None:
        """End the server as a power cut would, with the processes that PostgreSQL has for its connections."""
        backends = children(self.process.pid)
        self.process.kill()
        self.process.wait(_STOP_TIMEOUT_S)
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while any(map(is_alive, backends)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server for certain; harmless where it has ended already."""
        self._forget_administrator()
        kept_connections.let_go(self.port)
        if self.process.poll() is None:
            self.process.send_signal(_STOP_SIGNAL[self.engine])
        try:
            self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()


_MARIADB_WITHOUT_DISK = (
    "--innodb-flush-log-at-trx-commit=0",
    "--loose-debug-no-sync",
    "--loose-innodb-flush-method=nosync",
    "--loose-innodb-doublewrite=0",
)
_POSTGRES_WITHOUT_DISK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@contextmanager
def start_mariadb(*options: str, port: int | None = None, is_durable: bool = False) -> Iterator[Server]:
    """Run a MariaDB server; `options` go to mariadbd after ours.

    `is_durable`: what is committed is on the disk, as in production. Else nothing waits for the disk, and
    what was committed outlives the server, but no power cut.
    """
    refuse_in_fast("MariaDB")
    install_with = "apt-get install mariadb-server"
    install_db = _binary("mariadb-install-db", (), install_with)
    mariadbd = _binary("mariadbd", ("/usr/sbin", "/usr/libexec"), install_with)
    with _folder("mariadb-") as (folder, caretaker):
        user = pwd.getpwuid(os.getuid()).pw_name
        shared = ["--no-defaults", f"--datadir={folder / 'data'}", f"--user={user}", "--skip-name-resolve"]
        # In a shared one, servers that start remove each other's files.
        shared.append(f"--tmpdir={folder}")
        _run([install_db, *shared, "--skip-test-db", "--auth-root-authentication-method=normal"])
        init = folder / "init.sql"
        init.write_text(
            f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
            "DROP USER IF EXISTS ''@'localhost';\n",
            encoding="utf-8",
        )
        port = port or free_port()
        command = [
            mariadbd,
            *shared,
            f"--port={port}",
            f"--bind-address={HOST}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={init}",
            "--character-set-server=utf8mb4",
            "--innodb-log-file-size=64M",
            *([] if is_durable else _MARIADB_WITHOUT_DISK),
            *options,
        ]
        with _serve("mysql", command, port, folder / "log", caretaker) as server:
            yield server


@contextmanager
def start_postgres(*options: str, port: int | None = None, is_durable: bool = False) -> Iterator[Server]:
    """Run a PostgreSQL server; `options` are `name=value` settings added to ours.

    `is_durable`: what is committed is on the disk, as in production.
    """
    refuse_in_fast("PostgreSQL")
    initdb, postgres = _postgres_binary("initdb"), _postgres_binary("postgres")
    with _folder("postgres-") as (folder, caretaker):
        as_user = _unprivileged(folder)
        password_file = folder / "password"
        password_file.write_text(PASSWORD if is_durable else scram_verifier(PASSWORD), encoding="utf-8")
        password_file.chmod(0o644)  # the folder itself is private
        data = folder / "data"
        encoding = ["--encoding=UTF8", "--locale=C.UTF-8"]
        user = [f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        _run([*as_user, initdb, f"--pgdata={data}", "--no-sync", *encoding, *user])
        port = port or free_port()
        settings = [*([] if is_durable else _POSTGRES_WITHOUT_DISK), "timezone=UTC", *options]
        command = [postgres, "-D", str(data), "-h", HOST, "-p", str(port), "-k", str(folder)]
        for setting in settings:
            command += ["-c", setting]
        with _serve("postgres", [*as_user, *command], port, folder / "log", caretaker) as server:
            yield server


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago, and that no outgoing connection will be given.

    Nor is it given again: not here, and not in another process of the same test run.
    """
    while True:
        port = _BELOW_EPHEMERAL_PORTS.randrange(15_000 + _PROCESS, 32_000, _MOST_PROCESSES)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            _given.add(port)
            return port


@contextmanager
def _serve(
    engine: Engine, command: Sequence[str], port: int, log: Path, caretaker: IO[str]
) -> Iterator[Server]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,  # Ctrl-C in the terminal goes to pytest alone, which stops the server
        )
    print(_STOP_SIGNAL[engine].name.removeprefix("SIG"), process.pid, file=caretaker, flush=True)
    server = Server(engine, port, process, log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        server.stop()
        print(file=caretaker, flush=True)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            server.administration.execute("SELECT 1")
        except Exception as error:  # each driver has its own; all mean "not yet" until the deadline
            if server.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            log = "\n".join(server.log.read_text(errors="replace").splitlines()[-15:])
            raise ServerError(f"{server.engine} did not start: {error}\n{log}") from error
        return


def _unprivileged(folder: Path) -> list[str]:
    """What to put before a command so that PostgreSQL, which refuses root, accepts the user."""
    if os.getuid() != 0:
        return []
    setpriv = _binary("setpriv", (), "apt-get install util-linux")
    try:
        user = pwd.getpwnam("postgres")
    except KeyError as error:
        raise ServerError("there is no user 'postgres'; install: apt-get install postgresql") from error
    os.chown(folder, user.pw_uid, user.pw_gid)
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _binary(name: str, folders: Sequence[str], install_with: str) -> str:
    for path in (None, *folders):
        if found := shutil.which(name, path=path):
            return found
    raise ServerError(f"'{name}' is not installed; install it: {install_with}")


def _postgres_binary(name: str) -> str:
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return _binary(name, folders, "apt-get install postgresql")


def _run(command: Sequence[str], **variables: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_START_TIMEOUT_S,
        check=False,
        cwd="/",
        env={**os.environ, **variables},
    )
    if done.returncode != 0:
        raise ServerError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def _folder(prefix: str) -> Iterator[tuple[Path, IO[str]]]:
    """A folder, and what tells its caretaker which server uses it."""
    # Not below pytest's folder: a socket's path may have 107 characters, and another user must get in.
    folder = tempfile.mkdtemp(prefix=prefix)
    caretaker = subprocess.Popen(
        ["sh", "-c", _CARETAKER, folder],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd="/",
        start_new_session=True,
    )
    assert caretaker.stdin is not None
    with caretaker, caretaker.stdin:
        yield Path(folder), caretaker.stdin
