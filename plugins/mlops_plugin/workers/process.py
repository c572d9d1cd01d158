"""One model in a process of its own, with a limit on time and memory; `serving.pool` keeps these."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from mlops_plugin.errors import ArtifactError, DriverMissing, FeatureError, MlopsError, ServingError
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.worker import packed, stream_bytes, unpacked

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig, ServingConfig

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "ARROW_IO_THREADS"),
    "1",
)
# Airflow's keys and connections are no business of a model's.
_SECRET_PREFIXES = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "_AIRFLOW")
_LAST_WORDS_BYTES = 2000
_END_TIMEOUT_S = 5.0


@dataclass
class ModelProcess:
    """A `Runtime` whose model lives in another process. Used by one caller at a time."""

    model: ModelConfig
    limits: ServingConfig
    artifact_sha256: str = ""
    features: tuple[str, ...] = ()
    outputs: pa.Schema = field(default_factory=lambda: pa.schema([]))
    load_seconds: float = 0.0
    is_ended: bool = False
    _patience: Patience = field(default_factory=Patience)

    @classmethod
    def start(cls, model: ModelConfig, limits: ServingConfig) -> ModelProcess:
        """Start the process and load the model; raises what loading raises, or `ServingError`."""
        process = cls(model, limits)
        process._start()
        return process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory now; None once it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - not a real file
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None

    @contextlib.contextmanager
    def used_with(self, patience: Patience) -> Iterator[None]:
        """While inside, the caller has this patience with the model."""
        self._patience = patience
        try:
            yield
        finally:
            self._patience = Patience()

    def check(self, rows: pa.Schema) -> None:
        """Raise what the model has against rows of this schema: it is asked about none of them."""
        self.predict(pa.RecordBatch.from_pylist([], schema=rows))

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One prediction per row. Raises what the model's runtime raises, or `ServingError`."""
        # The model has no use for other columns, and they may be large.
        wanted = [name for name in rows.schema.names if name in set(self.features)]
        known = rows.select(wanted) if wanted else rows
        _, body = self._call({}, stream_bytes(known.schema, known), self.limits.timeout.total_seconds())
        with pa.ipc.open_stream(body) as answer:
            table = answer.read_all()
        return table.combine_chunks().to_batches()[0] if table.num_rows else _empty(self.outputs)

    def kill(self) -> None:
        """End the process, whatever it is doing; also from another thread than the one that uses it."""
        self.is_ended = True
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the process and let go of what it held; by whoever uses it."""
        self.kill()
        self._process.wait(_END_TIMEOUT_S)
        self._calls.close()
        self._said.close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        command = [sys.executable, "-m", "mlops_plugin.workers.worker"]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self.limits.memory_mb << 20)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                start_new_session=True,
            )
        self._calls = Connection(ours.detach())
        started = time.monotonic()
        request = {
            "artifact": self.model.model.model_dump(mode="json"),
            "features": self.model.features,
        }
        try:
            facts, body = self._call(request, b"", self.limits.load_timeout.total_seconds())
        except BaseException:
            self.end()
            raise
        self.artifact_sha256 = facts["artifact_sha256"]
        self.features = tuple(facts["features"])
        self.outputs = pa.ipc.open_stream(body).schema
        self.load_seconds = time.monotonic() - started

    def _call(self, header: dict[str, Any], body: Any, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        try:
            self._calls.send_bytes(packed({**header, "timeout_s": timeout_s}, body))
            if not self._patience.wait(self._calls.poll, timeout_s):
                self.end()
                raise ServingError(
                    f"models.{self.model.name}: the model did not answer within {timeout_s:g} s, and its "
                    "process was ended; give it fewer rows, or raise serving.timeout or serving.load_timeout"
                )
            answer, content = unpacked(self._calls.recv_bytes())
        except (OSError, EOFError) as error:
            raise ServingError(self._obituary()) from error
        if "error" in answer:
            raise _raised(self.model.name, answer["error"], answer["message"], self.limits.memory_mb)
        return answer, content

    def _obituary(self) -> str:
        """How the process ended, and its last words."""
        if self._said.closed:
            return f"models.{self.model.name}: the model's process was ended; try again"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        code = self._process.returncode
        how = f"exit status {code}"
        if code is None:
            how = "a closed connection"
        elif code < 0:
            how = f"signal {signal.Signals(-code).name}"
        size = os.fstat(self._said.fileno()).st_size
        said = os.pread(self._said.fileno(), _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        words = f"; it said last: {lines[-1].strip()}" if lines else ""
        self.end()
        return (
            f"models.{self.model.name}: the model's process ended with {how}{words}; the next run starts a "
            f"new one (it may use {self.limits.memory_mb} MB, see serving.memory_mb)"
        )


def _raised(model: str, kind: str, message: str, memory_mb: int) -> MlopsError:
    """An error of the worker as the same error here."""
    known: dict[str, type[MlopsError]] = {
        kept.__name__: kept for kept in (ArtifactError, FeatureError, DriverMissing)
    }
    if kind in known:
        return known[kind](message)
    # numpy has a MemoryError of its own, and a runtime may have wrapped any of them.
    if "MemoryError" in kind:
        return ServingError(
            f"models.{model}: the model needs more memory than the {memory_mb} MB it may use; give it fewer "
            "rows, or raise serving.memory_mb"
        )
    said = next((f": {line.strip()}" for line in message.splitlines() if line.strip()), "")
    return ServingError(f"models.{model}: the model raised {kind}{said}")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRET_PREFIXES)}
    path = os.pathsep.join(dict.fromkeys(entry for entry in sys.path if entry))
    return {**kept, **_ONE_THREAD, "PYTHONPATH": path}


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)
