"""The process in which one model runs; started by `serving.process`, never imported by the API server.

It answers messages on the socket whose number is its first argument. A message is a line of JSON and, where
rows travel, an Arrow IPC stream after it. What the model prints goes to standard error, not to the answers.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.formats.runtime import Runtime

_GRACE_S = 5  # the caller ends a process that is too slow; this clock is for when the caller is gone


def main() -> None:
    """Load the model that the first message describes, then predict until the caller hangs up."""
    os.dup2(2, 1)
    # Data, not address space: libraries reserve gigabytes that they never touch.
    memory_bytes = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    calls = Connection(int(sys.argv[1]))
    runtime: Runtime | None = None
    while True:
        try:
            header, body = unpacked(calls.recv_bytes())
        except EOFError:
            return
        # Not a handler in Python: a model that hangs in native code would never let it run.
        signal.alarm(math.ceil(header["timeout_s"]) + _GRACE_S)
        try:
            if runtime is None:
                runtime, answer = _load(header)
            else:
                answer = packed({}, _predict(runtime, body))
        except Exception as error:  # noqa: BLE001 - whatever a model raises is the caller's to hear
            answer = packed({"error": type(error).__name__, "message": str(error)})
        calls.send_bytes(answer)
        signal.alarm(0)


def packed(header: dict[str, Any], body: Any = b"") -> bytes:
    """One message."""
    return json.dumps(header).encode() + b"\n" + bytes(body)


def unpacked(message: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the body of a message."""
    header, _, body = message.partition(b"\n")
    return json.loads(header), body


def stream_bytes(schema: pa.Schema, *batches: pa.RecordBatch) -> pa.Buffer:
    """Rows as an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _load(header: dict[str, Any]) -> tuple[Runtime, bytes]:
    import pyarrow as pa

    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.runtime import load_runtime

    pa.set_cpu_count(1)
    artifact = ArtifactConfig.model_validate_json(json.dumps(header["artifact"]))
    features = header["features"]
    runtime = load_runtime(artifact, features=None if features is None else tuple(features))
    facts = {"artifact_sha256": runtime.artifact_sha256, "features": list(runtime.features)}
    return runtime, packed(facts, stream_bytes(runtime.outputs))


def _predict(runtime: Runtime, body: bytes) -> pa.Buffer:
    import pyarrow as pa

    with pa.ipc.open_stream(body) as rows:
        return stream_bytes(runtime.outputs, *(runtime.predict(batch) for batch in rows))


if __name__ == "__main__":
    main()
