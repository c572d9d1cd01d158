"""A process with the libraries loaded, which does each task in a process that it forks, as Airflow's do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from benchmarks.data_plane.step import FAILED
from benchmarks.warehouse import REPOSITORY, Spent


class Worker:
    """`data_plane.step` without a task; it ends with this object's context."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.data_plane.step"],
            env=environment,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, task: Mapping[str, Any]) -> Spent:
        """Do a task; what the steps log before the last line of JSON is left out."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        print(json.dumps(task), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith('{"import_s"'):
                return Spent(**json.loads(line))
            if line.strip() == FAILED:
                break
        raise SystemExit(f"{task} failed; its error is above")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
