"""One model in a process of its own, with a limit on time and memory; `workers.pool` keeps these."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from mlops_plugin.environments.location import Environment
from mlops_plugin.errors import ArtifactError, ServingError
from mlops_plugin.formats.artifact import copy_artifact, sha256_of
from mlops_plugin.formats.runtime import LEARNED_ROWS
from mlops_plugin.formats.signature.signature import read_content, signature_sha256, signature_uri
from mlops_plugin.formats.signature.versions import PYTHON, versions_of
from mlops_plugin.workers.confinement import WHOLE
from mlops_plugin.workers.failures import raised
from mlops_plugin.workers.messages import (
    Answer,
    Channel,
    Check,
    Checked,
    Failed,
    Learn,
    Learned,
    Load,
    Loaded,
    MessageError,
    Predict,
    Predicted,
    Request,
    RowsRequest,
    max_answer_bytes,
    outputs_schema,
    unpack_columns,
)
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.process_limits import Limits
from mlops_plugin.workers.row_memory import SMALLEST_BYTES, RowMemory, is_supported, stream_size
from mlops_plugin.workers.starting import END_TIMEOUT_S, Started, start

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig, ModelConfig

_log = logging.getLogger(__name__)

_NUMBER_BITS = 64
_NO_BODY = 0  # of an answer to anything but `predict`
_MOST_MODULES = 20  # that a model's process may name


@dataclass
class ModelProcess:
    """A `Runtime` whose model lives in another process. Used by one caller at a time.

    `confinement`: what the process can no longer reach, in words (see `workers.confinement`). `tell` hears
    what the model prints, up to a limit.
    """

    model: ModelConfig
    limits: Limits
    tell: Callable[[str], None] | None = None
    artifact_sha256: str = ""
    signature_sha256: str | None = None
    features: tuple[str, ...] = ()
    confinement: tuple[str, ...] = ()
    packages: Mapping[str, str] | None = None  # of the model's own environment
    libraries: Mapping[str, str] = field(default_factory=dict)
    load_seconds: float = 0.0
    is_ended: bool = False
    calls: int = 0  # how often the process was asked something
    _outputs: pa.Schema | None = None
    _is_released: bool = False
    _patience: Patience = field(default_factory=Patience)
    _memory: RowMemory = field(default_factory=RowMemory)
    undecided: tuple[str, ...] = ()
    _checked: pa.Schema | None = None  # the schema of rows that the process has checked last
    _process: Started | None = None
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def load(self) -> None:
        """Start the process and load the model.

        Raises what loading raises, `EnvironmentUnusable` if the model's environment is not there, or
        `ServingError`.
        """
        with _local_artifact(self.model.model) as path:
            self._start(path)

    @property
    def _name(self) -> str:
        return f"models.{self.model.name}"

    @property
    def pid(self) -> int:
        return self._started.child.pid

    @property
    def _started(self) -> Started:
        assert self._process is not None  # noqa: S101 - `load` comes first
        return self._process

    @property
    def outputs(self) -> pa.Schema:
        """The columns that the model answers with."""
        if self._outputs is None:
            self._learn(pa.RecordBatch.from_pylist([], schema=pa.schema([])))
        return self._outputs

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
        if self._checked is not None and self._checked.equals(rows):
            return
        none = self._known(pa.RecordBatch.from_pylist([], schema=rows))
        answer, _ = self._ask(Check(timeout_s=self.limits.answer_s), none)
        with self._exchange():
            self.undecided = tuple(_expect(Checked, answer).undecided)
        self._checked = rows

    def learn_outputs(self, rows: pa.RecordBatch) -> bool:
        """Learn from some rows with which columns the model answers; returns whether that is certain."""
        if rows.num_rows == 0:
            return False
        self._checked = None
        return self._learn(self._known(rows.slice(0, LEARNED_ROWS)))

    def _learn(self, rows: pa.RecordBatch) -> bool:
        answer, _ = self._ask(Learn(timeout_s=self.limits.answer_s), rows)
        with self._exchange():
            learned = _expect(Learned, answer)
            self._outputs = outputs_schema(learned.outputs)
        return learned.is_certain

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One prediction per row. Raises what the model's runtime raises, or `ServingError`."""
        outputs = self.outputs
        self._checked = None
        answer, body = self._ask(
            Predict(timeout_s=self.limits.answer_s),
            self._known(rows),
            max_answer_bytes(outputs, rows.num_rows),
        )
        with self._exchange():
            predicted = _expect(Predicted, answer)
            self._checked = rows.schema  # the process checks it, too
            return unpack_columns(outputs, rows.num_rows, predicted, body)

    def _known(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        # The model has no use for other columns, and they may be large.
        wanted = set(self.features)
        names = [name for name in rows.schema.names if name in wanted]
        return rows.select(names) if len(names) == len(wanted) == len({*names}) else rows

    def kill(self) -> None:
        """End the process, whatever it is doing; also from another thread than the one that uses it."""
        self.is_ended = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """End the process and release what it held; for the caller that uses it."""
        self.kill()
        self._is_released = True
        if self._process is not None:
            self._process.release()
            self._channel.close()
        self._memory.renew()
        self._held.close()

    def _start(self, artifact: Path | None) -> None:
        own = Environment.of(self.model)
        if own is not None:
            described = self._held.enter_context(own.used())
            self.packages = {**described.packages, PYTHON: described.python}
        try:
            self._process = start(self.limits, self.tell, None if own is None else own.python)
        except BaseException:
            self._held.close()
            raise
        self._channel = Channel(self._process.socket)
        started = time.monotonic()
        found = self.model.model
        located = found if artifact is None else found.model_copy(update={"uri": str(artifact)})
        self._located = located.uri
        try:
            request = Load(
                artifact={**located.as_told(), "logged": None if own is None else _logged(located)},
                features=None if self.model.features is None else list(self.model.features),
                must_be_confined=self.limits.must_be_confined,
                is_step=self.limits.is_step,
                timeout_s=self.limits.load_s,
            )
            sha256 = sha256_of(located)  # while the process starts
            # Whether it is the pinned one, the process says.
            signature = signature_sha256(located.model_copy(update={"signature_sha256": None}))
            answer, _ = self._call(request, [], _NO_BODY)
            with self._exchange():
                loaded = _expect(Loaded, answer)
            self._require_same_file("artifact", sha256, loaded.artifact_sha256)
            self._require_same_file("signature of", signature or "none", loaded.signature_sha256 or "none")
            self.features = tuple(loaded.features)
            self.libraries = versions_of(loaded.modules[:_MOST_MODULES], self.packages)
            if not self.limits.is_step:
                _ = self.outputs  # now, while the person waits for loading anyway
        except BaseException:
            self.end()
            raise
        self.artifact_sha256, self.signature_sha256 = sha256, signature
        self.confinement = tuple(loaded.confinement)
        self.load_seconds = time.monotonic() - started
        if missing := self.missing_confinement:
            _log.warning(
                "%s: this kernel cannot block the model's access to: %s", self._name, ", ".join(missing)
            )

    def _require_same_file(self, which: str, sha256: str, told: str) -> None:
        """The file may have run code by now: what its process says of it is not believed."""
        if told != sha256:
            raise ArtifactError(
                f"{self._name}.model: the {which} {self.model.model.uri} changed while it was loaded "
                f"(sha256 {sha256[:12]}..., the process says {told[:12]}...); try again"
            )

    @property
    def missing_confinement(self) -> list[str]:
        """What the kernel cannot keep the model from, in words."""
        return [each for each in WHOLE if each not in self.confinement]

    def _ask(
        self, request: RowsRequest, rows: pa.RecordBatch, max_bytes: int = _NO_BODY
    ) -> tuple[Answer, memoryview]:
        """Send a request about rows: in shared memory if they are many."""
        size = stream_size(rows)
        if size < SMALLEST_BYTES or not is_supported():
            return self._call(request, [memoryview(_stream_bytes(rows))], max_bytes)
        is_free = False
        try:
            handing = [self._memory.fd] if self._memory.put(rows, size) else []
            shared = replace(request, shared_bytes=size)
            answer, body = self._call(shared, [], max_bytes, handing)
            is_free = isinstance(answer, Predicted) and not answer.keeps_rows
        finally:
            if not is_free:  # the model may hold these rows: the next ones get memory of their own
                self._memory.renew()
        return answer, body

    def _call(
        self, request: Request, body: Sequence[memoryview], max_bytes: int, handing: Sequence[int] = ()
    ) -> tuple[Answer, memoryview]:
        """Send a request and receive its answer, both before one deadline."""
        # Not the next number: the process could have written an answer to that one already.
        number = secrets.randbits(_NUMBER_BITS)
        with self._exchange():
            deadline = time.monotonic() + request.timeout_s
            if request.timeout_s <= 0:
                raise TimeoutError
            self.calls += 1
            self._channel.send(number, request, body, deadline, handing)
            if not self._patience.wait(self._channel.has_answer, deadline - time.monotonic()):
                raise TimeoutError
            answer, content = self._channel.receive_answer(number, max_bytes, deadline)
        if isinstance(answer, Failed):
            said = answer.message.replace(self._located, self.model.model.uri)
            raise raised(self.model.name, replace(answer, message=said), self.limits)
        return answer, content

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Whatever goes wrong, kill the process: what it sends next could be the answer to an old request."""
        name = self._name
        try:
            yield
        except TimeoutError as error:
            self.end()
            raise ServingError(f"{name}: {self.limits.too_slow}") from error
        except MessageError as error:
            self.end()
            raise ServingError(
                f"{name}: {error}; the model's process was killed, and the next run starts a new one"
            ) from error
        except (OSError, EOFError) as error:
            raise ServingError(self._describe_exit()) from error
        except BaseException:
            self.end()
            raise

    def _describe_exit(self) -> str:
        """How the process ended, and its last words."""
        if self._is_released:
            return f"{self._name}: the model's process was killed; try again"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._started.child.wait(END_TIMEOUT_S)
        code = self._started.child.returncode
        how = f"exit status {code}"
        if code is None:
            how = "a closed connection"
        elif code < 0:
            how = f"signal {signal.Signals(-code).name}"
        self.end()
        line = self._started.said.last_line(END_TIMEOUT_S)
        words = f"; it printed last: {line}" if line else ""
        return f"{self._name}: the model's process ended with {how}{words}; {self.limits.ended}"


_Expected = TypeVar("_Expected", Loaded, Learned, Checked, Predicted)


def _expect(kind: type[_Expected], answer: Answer) -> _Expected:
    if not isinstance(answer, kind):
        raise MessageError(f"the process sent an answer of kind '{answer.kind}' to another request")
    return answer


def _logged(artifact: ArtifactConfig) -> dict[str, Any] | None:
    """What describes an MLflow model, for a Python that cannot read that; None for any other."""
    if not artifact.may_be_folder:
        return None
    from mlops_plugin.formats.mlflow_models.mlmodel import describe
    from mlops_plugin.formats.mlflow_models.model_files import open_files, read_description

    files = open_files(artifact.uri)
    return describe(artifact.uri, read_description(artifact.uri, files), files.sizes).as_told()


@contextlib.contextmanager
def _local_artifact(artifact: ArtifactConfig) -> Iterator[Path | None]:
    """A remote artifact as a file that lasts while the model is loaded; None for a local one.

    The model's process has no network and no credentials, so the caller fetches the file and its signature.
    """
    uri = artifact.uri
    if "://" not in uri:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mlops-artifact-") as folder:
        path = Path(folder) / (Path(uri.partition("?")[0]).name or "artifact")
        copy_artifact(artifact, path)
        if (signature := read_content(signature_uri(uri))) is not None:
            Path(signature_uri(str(path))).write_bytes(signature)
        yield path


def _stream_bytes(rows: pa.RecordBatch) -> pa.Buffer:
    """Rows as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue()
