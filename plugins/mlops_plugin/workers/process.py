"""One model in a process of its own, with a limit on time and memory; `workers.pool` keeps these."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from mlops_plugin.errors import (
    ArtifactChanged,
    ArtifactError,
    DriverMissing,
    FeatureError,
    GoldenRowMismatch,
    MlopsError,
    ServingError,
    SignatureError,
)
from mlops_plugin.workers.confinement import WHOLE
from mlops_plugin.workers.last_words import LastWords
from mlops_plugin.workers.messages import (
    Answer,
    Channel,
    Failed,
    Learn,
    Learned,
    Load,
    Loaded,
    MessageError,
    Predict,
    Predicted,
    Request,
    max_answer_bytes,
    outputs_schema,
    unpack_columns,
)
from mlops_plugin.workers.patience import Patience

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig, ServingConfig

_log = logging.getLogger(__name__)

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "ARROW_IO_THREADS"),
    "1",
)
# What a model's process inherits; everything else may be a secret.
_ENVIRONMENT = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "AIRFLOW_HOME")
)
_ENVIRONMENT_OF_LIBRARIES = (
    "LC_",
    "OPENBLAS_",
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "SKLEARN_",
    "PYTHONHASHSEED",
)
_END_TIMEOUT_S = 5.0
_LOADED_BYTES = 0  # an answer to `load` or `learn` has no body
_SAMPLE_ROWS = 16  # enough to see which columns a model answers with


@dataclass
class ModelProcess:
    """A `Runtime` whose model lives in another process. Used by one caller at a time.

    `confinement`: what the process can no longer reach, in words (see `workers.confinement`).
    """

    model: ModelConfig
    limits: ServingConfig
    artifact_sha256: str = ""
    features: tuple[str, ...] = ()
    outputs: pa.Schema = field(default_factory=lambda: pa.schema([]))
    confinement: tuple[str, ...] = ()
    load_seconds: float = 0.0
    is_ended: bool = False
    _requests: int = 0
    _is_released: bool = False
    _patience: Patience = field(default_factory=Patience)

    @classmethod
    def start(cls, model: ModelConfig, limits: ServingConfig) -> ModelProcess:
        """Start the process and load the model; raises what loading raises, or `ServingError`."""
        process = cls(model, limits)
        with _local_artifact(model.model.uri) as path:
            process._start(path)
        return process

    @property
    def _name(self) -> str:
        return f"models.{self.model.name}"

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

    def learn_outputs(self, rows: pa.RecordBatch) -> None:
        """Learn from the first of some rows with which columns the model answers."""
        request = Learn(timeout_s=self.limits.timeout.total_seconds())
        content = memoryview(_stream_bytes(self._known(rows.slice(0, _SAMPLE_ROWS))))
        answer, _ = self._call(request, [content], _LOADED_BYTES)
        with self._exchange():
            self.outputs = outputs_schema(_expect(Learned, answer).outputs)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One prediction per row. Raises what the model's runtime raises, or `ServingError`."""
        timeout_s = self.limits.timeout.total_seconds()
        content = memoryview(_stream_bytes(self._known(rows)))
        answer, body = self._call(
            Predict(timeout_s=timeout_s), [content], max_answer_bytes(self.outputs, rows.num_rows)
        )
        with self._exchange():
            return unpack_columns(self.outputs, rows.num_rows, _expect(Predicted, answer), body)

    def _known(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        # The model has no use for other columns, and they may be large.
        wanted = [name for name in rows.schema.names if name in set(self.features)]
        return rows.select(wanted) if wanted else rows

    def kill(self) -> None:
        """End the process, whatever it is doing; also from another thread than the one that uses it."""
        self.is_ended = True
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the process and release what it held; for the caller that uses it."""
        self.kill()
        self._is_released = True
        self._process.wait(_END_TIMEOUT_S)
        self._channel.close()

    def _start(self, artifact: Path | None) -> None:
        ours, theirs = socket.socketpair()
        self._said = LastWords()
        command = [sys.executable, "-m", "mlops_plugin.workers.worker"]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self.limits.memory_mb << 20)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said.write_end,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                start_new_session=True,
            )
        self._said.listen()
        self._channel = Channel(ours)
        started = time.monotonic()
        located = (
            self.model.model
            if artifact is None
            else self.model.model.model_copy(update={"uri": str(artifact)})
        )
        request = Load(
            artifact=located.model_dump_json(),
            features=None if self.model.features is None else list(self.model.features),
            must_be_confined=self.limits.require_confinement,
            timeout_s=self.limits.load_timeout.total_seconds(),
        )
        try:
            answer, _ = self._call(request, [], _LOADED_BYTES)
            with self._exchange():
                loaded = _expect(Loaded, answer)
                self.outputs = outputs_schema(loaded.outputs)
        except BaseException:
            self.end()
            raise
        self.artifact_sha256 = loaded.artifact_sha256
        self.features = tuple(loaded.features)
        self.confinement = tuple(loaded.confinement)
        self.load_seconds = time.monotonic() - started
        if missing := [each for each in WHOLE if each not in self.confinement]:
            _log.warning("%s: this kernel does not keep the model from: %s", self._name, ", ".join(missing))

    def _call(
        self, request: Request, body: Sequence[memoryview], max_bytes: int
    ) -> tuple[Answer, memoryview]:
        """Send a request and receive its answer, both before one deadline."""
        self._requests += 1
        with self._exchange():
            deadline = time.monotonic() + request.timeout_s
            self._channel.send(self._requests, request, body, deadline)
            if not self._patience.wait(self._channel.has_answer, deadline - time.monotonic()):
                raise TimeoutError
            answer, content = self._channel.receive_answer(self._requests, max_bytes, deadline)
        if isinstance(answer, Failed):
            raise _raised(self.model.name, answer.error, answer.message, self.limits.memory_mb)
        return answer, content

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Whatever goes wrong, kill the process: what it sends next could be the answer to an old request."""
        name = self._name
        try:
            yield
        except TimeoutError as error:
            self.end()
            limits = self.limits
            raise ServingError(
                f"{name}: the model did not answer within {limits.timeout.total_seconds():g} s (loading: "
                f"{limits.load_timeout.total_seconds():g} s), and its process was killed; "
                "give it fewer rows, or raise serving.timeout or serving.load_timeout"
            ) from error
        except MessageError as error:
            self.end()
            raise ServingError(
                f"{name}: {error}; the model's process was killed, and the next run starts a new one"
            ) from error
        except (OSError, EOFError) as error:
            raise ServingError(self._obituary()) from error
        except BaseException:
            self.end()
            raise

    def _obituary(self) -> str:
        """How the process ended, and its last words."""
        if self._is_released:
            return f"models.{self.model.name}: the model's process was killed; try again"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        code = self._process.returncode
        how = f"exit status {code}"
        if code is None:
            how = "a closed connection"
        elif code < 0:
            how = f"signal {signal.Signals(-code).name}"
        self.end()
        line = self._said.last_line(_END_TIMEOUT_S)
        words = f"; it printed last: {line}" if line else ""
        return (
            f"models.{self.model.name}: the model's process ended with {how}{words}; the next run starts a "
            f"new one (it may use {self.limits.memory_mb} MB, see serving.memory_mb)"
        )


# Errors of loading and predicting that keep their type on the way to the caller.
_KEPT: dict[str, type[MlopsError]] = {
    kept.__name__: kept
    for kept in (
        ArtifactChanged,
        ArtifactError,
        DriverMissing,
        FeatureError,
        GoldenRowMismatch,
        ServingError,
        SignatureError,
    )
}
_Expected = TypeVar("_Expected", Loaded, Learned, Predicted)


def _expect(kind: type[_Expected], answer: Answer) -> _Expected:
    if not isinstance(answer, kind):
        raise MessageError(f"the process answered '{answer.kind}' to another question")
    return answer


@contextlib.contextmanager
def _local_artifact(uri: str) -> Iterator[Path | None]:
    """A remote artifact as a file that lasts while the model is loaded; None for a local one.

    The model's process has no network and no credentials, so the caller fetches the file and its signature.
    """
    if "://" not in uri:
        yield None
        return
    from mlops_plugin.formats.artifact import open_artifact
    from mlops_plugin.formats.signature.signature import read_content, signature_uri

    with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as folder:
        path = Path(folder) / (Path(uri.partition("?")[0]).name or "artifact")
        with open_artifact(uri) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        if (signature := read_content(signature_uri(uri))) is not None:
            Path(signature_uri(str(path))).write_bytes(signature)
        yield path


def _raised(model: str, kind: str, message: str, memory_mb: int) -> MlopsError:
    """An error of the worker as the same error here."""
    if kind in _KEPT:
        return _KEPT[kind](message)
    # numpy has a MemoryError of its own, and a runtime may have wrapped any of them.
    if "MemoryError" in kind:
        return ServingError(
            f"models.{model}: the model needs more memory than the {memory_mb} MB it may use; give it fewer "
            "rows, or raise serving.memory_mb"
        )
    said = next((f": {line.strip()}" for line in message.splitlines() if line.strip()), "")
    return ServingError(f"models.{model}: the model raised {kind}{said}")


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_OF_LIBRARIES)
    }
    path = os.pathsep.join(dict.fromkeys(entry for entry in sys.path if entry))
    return {**kept, **_ONE_THREAD, "PYTHONPATH": path}


def _stream_bytes(rows: pa.RecordBatch) -> pa.Buffer:
    """Rows as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue()
