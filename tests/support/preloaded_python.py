"""Processes that a Python forks which has imported our libraries: none of them imports them again.

Each has an environment, a folder and files of its own. What a process reads from its environment only while
it imports something is what it was when the first Python started.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_REQUEST_BYTES = 1 << 17
_STREAMS = 3
_DIGITS = 8  # of a process id or an exit status
# What most processes of a deployment import.
DEPLOYMENT = (
    "airflow.sdk.execution_time.timeout",
    "pandas",
    "sklearn.linear_model",
    "skops.io",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "sqlglot.dialects.mysql",
    "sqlglot.dialects.postgres",
    "sqlglot.dialects.sqlite",
    "mlops_plugin.cli.check",
    "mlops_plugin.cli.dispatch",
    "mlops_plugin.cli.init",
    "mlops_plugin.databases.drivers.adbc_postgres",
    "mlops_plugin.databases.drivers.adbc_sqlite",
    "mlops_plugin.databases.drivers.mysql",
    "mlops_plugin.databases.drivers.mysql_protocol.session",
    "mlops_plugin.databases.drivers.odbc.driver",
    "mlops_plugin.databases.limited_database",
    "mlops_plugin.databases.sink.writer",
    "mlops_plugin.formats.scikit_files",
    "mlops_plugin.monitoring.recording",
    "mlops_plugin.pipeline.runner",
    "mlops_plugin.workers.isolation",
    "support.workshop",
)
# The `mlops` command with its arguments.
MLOPS = "import sys; from mlops_plugin.cli import main; sys.exit(main())"


@dataclass
class ForkedPython:
    """One of them, which runs until `wait` has returned its exit status."""

    pid: int
    _ending: int

    def wait(self, timeout_s: float) -> int:
        """Its exit status, negative if a signal has ended it; kills it after the limit."""
        ready, _, _ = select.select([self._ending], [], [], timeout_s)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        status = os.read(self._ending, _DIGITS)
        os.close(self._ending)
        assert ready, f"the process did not end within {timeout_s} s"
        return int(status)


class PreloadedPython:
    """The Python that forks them."""

    def __init__(self, requests: socket.socket, environment: Mapping[str, str]) -> None:
        self._requests, self._environment = requests, environment

    def start(
        self, code: str, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], files: Sequence[int]
    ) -> ForkedPython:
        """Run `code` as `python -c` does; `files` are its standard input, output and error output."""
        ending, written = os.pipe()
        request = pickle.dumps((code, [*arguments], str(cwd), {**self._environment, **env}))
        socket.send_fds(self._requests, [request], [*files, written])
        os.close(written)
        return ForkedPython(int(os.read(ending, _DIGITS)), ending)

    def run(
        self,
        code: str,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        timeout_s: float = 300,
        tell: Callable[[int], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The same, with no input; returns what it has printed. `tell` gets its process id at once."""
        with (
            Path(os.devnull).open() as nothing,
            tempfile.TemporaryFile("w+") as output,
            tempfile.TemporaryFile("w+") as errors,
        ):
            files = [file.fileno() for file in (nothing, output, errors)]
            process = self.start(code, arguments, cwd=cwd, env=env, files=files)
            if tell is not None:
                tell(process.pid)
            status = process.wait(timeout_s)
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess([code, *arguments], status, output.read(), errors.read())


@contextlib.contextmanager
def preloaded_python(
    home: Path, modules: Sequence[str] = DEPLOYMENT, **environment: str
) -> Iterator[PreloadedPython]:
    """Start one with a home of Airflow; its processes, too, have `environment` if they are given no other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.preloaded_python", str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            env={**inherited, "AIRFLOW_HOME": str(home), **path, **environment},
        )
        theirs.close()
        try:
            yield PreloadedPython(ours, {**path, **environment})
        finally:
            ours.close()
            assert process.wait(300) == 0


def main() -> None:
    """Import what the command line names, and fork a process for each request until there are no more."""
    number, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # a collection in a forked process would touch, and so copy, every page of these
    with socket.socket(fileno=int(number)) as requests:
        while True:
            request, files, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, _STREAMS + 1)
            if not request:
                return
            if os.fork() == 0:
                requests.close()
                _watch(request, files)
                return  # the process is over: it ends as each Python does
            for file in files:
                os.close(file)
            with contextlib.suppress(ChildProcessError):  # there are no more
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _watch(request: bytes, files: Sequence[int]) -> None:
    """Start the process, and say its id and later its exit status; returns in that process alone."""
    *streams, ending = files
    pid = os.fork()
    if pid == 0:
        os.close(ending)
        code, arguments, folder, environment = pickle.loads(request)
        _run(code, arguments, folder, environment, streams)
        return
    for stream in streams:
        os.close(stream)
    os.write(ending, str(pid).rjust(_DIGITS).encode())
    _, status = os.waitpid(pid, 0)
    os.write(ending, str(os.waitstatus_to_exitcode(status)).rjust(_DIGITS).encode())
    os._exit(0)


def _run(
    code: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[int]
) -> None:
    os.setsid()  # a terminal that it is given is then its own
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - its streams, of the kind that these files are
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's own code


if __name__ == "__main__":
    main()
