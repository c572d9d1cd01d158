"""The process in which one model runs; started by `workers.process`, never imported by the API server.

It answers requests on the socket whose number is its first argument. What the model prints goes to standard
error, not to the answers.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_plugin.errors import ServingError
from mlops_plugin.workers.confinement import WHOLE, confine
from mlops_plugin.workers.messages import (
    Answer,
    Channel,
    Failed,
    Learn,
    Learned,
    Load,
    Loaded,
    describe_outputs,
    pack_columns,
)

if TYPE_CHECKING:
    from mlops_plugin.formats.runtime import Runtime

_GRACE_S = 5  # the caller kills a process that is too slow; this clock is for when the caller is gone


def main() -> None:
    """Load the model that the first request describes, then predict until the caller hangs up."""
    os.dup2(2, 1)
    # Data, not address space: libraries reserve gigabytes that they never touch.
    memory_bytes = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    runtime: Runtime | None = None
    while True:
        try:
            number, request, body = channel.receive_request()
        except EOFError:
            return
        # Not a handler in Python: a model that hangs in native code would never let it run.
        signal.alarm(math.ceil(request.timeout_s) + _GRACE_S)
        answer: Answer
        columns: list[memoryview] = []
        try:
            if isinstance(request, Load):
                runtime, answer = _load(request)
            elif isinstance(request, Learn):
                answer = _learn(runtime, body)
            else:
                answer, columns = _predict(runtime, body)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is the caller's to hear
            # The runtime names what a model raises; that memory is missing is the caller's to say.
            said = error.__cause__ if isinstance(error.__cause__, MemoryError) else error
            answer = Failed(error=type(said).__name__, message=str(said))
        channel.send(number, answer, columns)
        signal.alarm(0)


def _load(request: Load) -> tuple[Runtime, Loaded]:
    import pyarrow as pa

    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.runtime import load_runtime

    pa.set_cpu_count(1)
    artifact = ArtifactConfig.model_validate_json(request.artifact)
    # Before the first byte of the model is read. Its sidecar files lie beside it and begin with its name.
    path = Path(artifact.uri)
    confinement = confine(str(file) for file in path.parent.glob(f"{_escaped(path.name)}*"))
    missing = [each for each in WHOLE if each not in confinement]
    if missing and request.must_be_confined:
        raise ServingError(
            f"this kernel cannot keep a model from: {', '.join(missing)}; use Linux 6.12 or later, or set "
            "serving.require_confinement to false"
        )
    _use_threads_only()
    features = None if request.features is None else tuple(request.features)
    runtime = load_runtime(artifact, features=features)
    loaded = Loaded(
        artifact_sha256=runtime.artifact_sha256,
        features=list(runtime.features),
        outputs=describe_outputs(runtime.outputs),
        confinement=confinement,
    )
    return runtime, loaded


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)


def _use_threads_only() -> None:
    """Let models with `n_jobs` use threads: there are no further processes here."""
    import joblib

    joblib.parallel_config(backend="threading", n_jobs=1)


def _learn(runtime: Runtime | None, body: memoryview) -> Learned:
    import pyarrow as pa

    if runtime is None:
        raise RuntimeError("no model is loaded")
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        for batch in stream:
            runtime.learn_outputs(batch)
    return Learned(outputs=describe_outputs(runtime.outputs))


def _predict(runtime: Runtime | None, body: memoryview) -> tuple[Answer, Any]:
    import pyarrow as pa

    if runtime is None:
        raise RuntimeError("no model is loaded")
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        answers = [runtime.predict(batch) for batch in stream]
    table = pa.Table.from_batches(answers, runtime.outputs).combine_chunks()
    batches = table.to_batches()
    return pack_columns(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=runtime.outputs))


if __name__ == "__main__":
    main()
