"""The process in which one model runs; started by `workers.starting` or forked by `workers.fork_server`.

It answers requests on the socket whose number is its first argument. What the model prints goes to standard
error, not to the answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import pickle
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from mlops_plugin.errors import DriverMissing, ServingError
from mlops_plugin.workers.confinement import WHOLE, become_reaper, confine
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
    Predict,
    Predicted,
    RowsRequest,
    Sign,
    Signed,
    describe_outputs,
    pack_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.runtime import Runtime
    from mlops_plugin.formats.scikit import ScikitRuntime
    from mlops_plugin.workers.row_memory import RowView

_PACKAGE = Path(__file__).parents[1]
_GRACE_S = 5  # the caller kills a process that is too slow; this clock is for when the caller is gone
_CAUSE_CHARACTERS = 8000


def run(channel: int, memory_bytes: int) -> None:
    """Load the model that the first request describes, then answer until the caller hangs up.

    `channel` is a socket's descriptor; `memory_bytes` 0 is no limit.
    """
    os.dup2(2, 1)
    become_reaper()
    line = exit_with_caller()
    # Data, not address space: libraries reserve gigabytes that they never touch.
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    worker = _Worker(Channel(socket.socket(fileno=channel)), line, says_memory=bool(memory_bytes))
    while worker.answer_one():
        pass


def exit_with_caller() -> int:
    """Be killed as soon as the caller is gone, whatever the model is doing.

    Standard input is a socket, or a pipe, that only the caller can write into, and never does. Not
    PR_SET_PDEATHSIG, which follows the thread that has started this process. Returns the descriptor on which
    this hangs.
    """
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if sys.platform != "linux":
        threading.Thread(target=_wait_for_end, args=(line,), daemon=True, name="caller's end").start()
        return line
    fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(line, fcntl.F_SETFL, os.O_ASYNC)
    _let_nobody_wait_for(line)
    gone = select.poll()
    gone.register(line, 0)  # whether it has ended already
    if gone.poll(0):
        _wait_for_end(line)
    return line


def _let_nobody_wait_for(line: int) -> None:
    """Make each read of the socket return at once: Linux sends no signal to a process that waits in one."""
    with contextlib.suppress(OSError):  # a pipe, where it does
        one = socket.socket(fileno=line)
        try:
            one.shutdown(socket.SHUT_RD)
        finally:
            one.detach()


def _wait_for_end(line: int) -> None:
    os.read(line, 1)
    os.kill(os.getpid(), signal.SIGKILL)


class _Worker:
    """Answers requests, one after the other."""

    def __init__(self, channel: Channel, line: int, *, says_memory: bool) -> None:
        self._channel = channel
        self._line = line
        self._says_memory = says_memory
        self._runtime: Runtime | None = None
        self._rows: dict[int, RowView] = {}
        self._outputs: pa.Schema | None = None  # what the caller knows of the answers
        self._sent_schema: tuple[int, pa.Schema | None] = (0, None)  # the number of a schema, and the schema
        self._requirements: str | None = None  # the file of the model's own libraries, if it has some

    def answer_one(self) -> bool:
        """Wait for a request and answer it; returns False once the caller has hung up."""
        try:
            number, request, body, handed = self._channel.receive_request()
        except EOFError:
            return False
        # Not a handler in Python: a model that hangs in native code would never let it run.
        signal.alarm(math.ceil(request.timeout_s) + _GRACE_S)
        answer: Answer
        columns: list[memoryview] = []
        try:
            if isinstance(request, Load):
                own = request.artifact["environment"]
                self._requirements = None if own is None else own["requirements"]
                self._runtime, answer = _load(request, self._line)
                self._artifact = _artifact_of(request.artifact)
            elif isinstance(request, Sign):
                answer, columns = self._sign(request, body)
            else:
                answer, columns = self._about_rows(request, body, handed)
                self._require_known_outputs(answer)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is the caller's to hear
            answer = self._failed(error)
        self._channel.send(number, answer, columns)
        signal.alarm(0)
        return True

    def _about_rows(
        self, request: RowsRequest, body: memoryview, handed: list[int]
    ) -> tuple[Answer, list[memoryview]]:
        if self._runtime is None:
            raise RuntimeError("no model is loaded")
        if not request.shared_bytes:
            if isinstance(request, Predict):
                return _predicted(self._runtime, [self._few_rows(request, body)])
            return _asked(self._runtime, request, body)
        from mlops_plugin.workers.row_memory import RowView

        view = self._rows.setdefault(request.memory, RowView())
        for fd in handed:
            view.open(fd)
        answer, columns = _asked(self._runtime, request, view.lend(request.shared_bytes))
        if isinstance(answer, Predicted):
            answer = replace(answer, keeps_rows=not view.take_back())
        return answer, columns

    def _require_known_outputs(self, answer: Answer) -> None:
        """The caller reads bytes by the columns that it knows: by others, they would be other numbers."""
        if not isinstance(answer, Learned | Predicted):
            return
        outputs, known = cast("Runtime", self._runtime).outputs, self._outputs
        if isinstance(answer, Learned):
            self._outputs = outputs
        elif known is not None and not outputs.equals(known):
            raise RuntimeError(f"the model answers with {outputs}, and was to answer with {known}")

    def _few_rows(self, request: Predict, body: memoryview) -> pa.RecordBatch:
        import pyarrow as pa

        if not request.is_bare:
            rows = _only_batch(body)
            self._sent_schema = request.schema_number, rows.schema
            return rows
        number, schema = self._sent_schema
        if schema is None or number != request.schema_number:
            raise RuntimeError(f"schema {request.schema_number} was not sent; the last one was {number}")
        return pa.ipc.read_record_batch(pa.py_buffer(body), schema)

    def _sign(self, request: Sign, body: memoryview) -> tuple[Answer, list[memoryview]]:
        from mlops_plugin.formats.signature.signing import TrainingRows, sign

        # What is pickled is the caller's, whom this process trusts.
        rows = TrainingRows(_only_batch(body)) if request.is_stream else pickle.loads(body)  # noqa: S301
        runtime = cast("ScikitRuntime", self._runtime)
        written, self._runtime = sign(self._artifact, runtime, rows, synthetic=request.synthetic)
        return Signed(), [memoryview(written)]

    def _failed(self, error: Exception) -> Failed:
        # The runtime names what a model raises; that its memory is limited is the caller's to say.
        cause = error.__cause__
        reported = cause if isinstance(cause, MemoryError) and self._says_memory else error
        shown = "" if cause is None else "".join(traceback.format_exception(cause))[-_CAUSE_CHARACTERS:]
        if self._requirements is not None and isinstance(reported, DriverMissing | ModuleNotFoundError):
            advice = f"put what is missing into '{self._requirements}', and run: mlops environments sync"
            return Failed(error=DriverMissing.__name__, message=f"{reported}; {advice}", cause=shown)
        return Failed(error=type(reported).__name__, message=str(reported), cause=shown)


def _load(request: Load, line: int) -> tuple[Runtime, Loaded]:
    from mlops_plugin.formats.importing.sklearn_import import import_what_needs_files
    from mlops_plugin.formats.native_threads import wait_passively
    from mlops_plugin.formats.runtime import load_runtime, load_signed, load_unproven
    from mlops_plugin.formats.signature.versions import modules_of

    wait_passively()
    _use_threads(request)
    artifact = _artifact_of(request.artifact)
    if artifact.environment is not None:
        import_what_needs_files()
    # Before the first byte of the model is read. Its sidecar files lie beside it and begin with its name.
    path = Path(artifact.uri)
    readable = [str(_PACKAGE), *(str(file) for file in path.parent.glob(f"{_escaped(path.name)}*"))]
    if Path(artifact.signature_uri).exists():  # maybe elsewhere, of a version in a registry
        readable.append(artifact.signature_uri)
    if artifact.is_code:
        from mlops_plugin.formats.custom.python_package import Place, find_package

        readable.append(str(find_package(Place.of(artifact.uri))))
    confinement = confine(readable, line)
    missing = [each for each in WHOLE if each not in confinement]
    if missing and request.must_be_confined:
        raise ServingError(
            f"this kernel cannot block a model's access to: {', '.join(missing)}; use Linux 6.12 or later, "
            "or set "
            "serving.require_confinement to false"
        )
    features = None if request.features is None else tuple(request.features)
    if request.is_unsigned:
        runtime = load_signed(artifact, features, None)
    elif request.is_step:
        runtime, _ = load_unproven(artifact, features=features)
    else:
        runtime = load_runtime(artifact, features=features)
    loaded = Loaded(
        artifact_sha256=runtime.artifact_sha256,
        signature_sha256=runtime.signature_sha256,
        features=list(runtime.features),
        confinement=confinement,
        modules=modules_of(getattr(runtime, "model", runtime)),
    )
    return runtime, loaded


def _artifact_of(described: Mapping[str, Any]) -> ArtifactConfig:
    """The artifact as the caller's configuration describes it, which has been checked there."""
    parts: dict[str, Any] = {
        name: tuple(part) if isinstance(part, list) else part for name, part in described.items()
    }
    if parts["environment"] is not None:
        parts["environment"] = SimpleNamespace(**parts["environment"])
    return cast("ArtifactConfig", SimpleNamespace(**parts))


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)


def _use_threads(request: Load) -> None:
    """Let models with `n_jobs` use threads: there will be no further processes here."""
    try:
        import joblib
    except ModuleNotFoundError:  # in an environment without scikit-learn
        return
    from mlops_plugin.formats.native_threads import share_jobs_among_threads

    share_jobs_among_threads(None if request.is_step else 1)
    if request.is_step:
        joblib.cpu_count(only_physical_cores=True)  # it asks a program, and remembers what that says
        return
    import pyarrow as pa

    pa.set_cpu_count(1)


def _asked(runtime: Runtime, request: RowsRequest, stream: memoryview) -> tuple[Answer, list[memoryview]]:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        if isinstance(request, Check):
            runtime.check(reader.schema)
            return Checked(undecided=list(runtime.undecided)), []
        if isinstance(request, Learn):
            is_certain = any(runtime.learn_outputs(batch) for batch in reader)
            return Learned(outputs=describe_outputs(runtime.outputs), is_certain=is_certain), []
        return _predicted(runtime, reader)


def _predicted(runtime: Runtime, batches: Iterable[pa.RecordBatch]) -> tuple[Predicted, list[memoryview]]:
    answers = [runtime.predict(batch) for batch in batches]
    return pack_columns(_one_batch(answers, runtime.outputs))


def _only_batch(stream: memoryview) -> pa.RecordBatch:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        return reader.read_next_batch()


def _one_batch(answers: list[pa.RecordBatch], outputs: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    if len(answers) == 1 and answers[0].schema.equals(outputs):
        return answers[0]
    batches: list[Any] = pa.Table.from_batches(answers, outputs).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=outputs)


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]))
