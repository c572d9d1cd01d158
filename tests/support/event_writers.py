"""Processes that append events to one store at once: a Python that has loaded the store forks them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier

from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.records import DispatchIdentity
from mlops_plugin.events.store import EventStore


class EventWriters:
    """One writer for each list of dispatches; all have begun when this has been made."""

    def __init__(
        self, address: StoreAddress, dispatches: Sequence[Sequence[DispatchIdentity]], count: int
    ) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.event_writers"],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"PYTHONPATH": ":".join(sys.path)},
            start_new_session=True,  # so that a signal reaches all of them
        )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(pickle.dumps((address, dispatches, count)))
        self._process.stdin.flush()
        for _ in dispatches:
            self._process.stdout.readline()

    def errors(self) -> str:
        """What they have said when all have ended."""
        return self._process.communicate(timeout=300)[1].decode()[-2000:]

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def _append(address: StoreAddress, identities: Sequence[DispatchIdentity], count: int, all_: Barrier) -> None:
    with EventStore(address) as store:
        all_.wait(120)
        print("begins", flush=True)
        for number in range(count):
            identity = identities[number % len(identities)]
            if number < len(identities):
                store.begin(identity)
            else:
                store.step_succeeded(identity.dispatch_id, "infer", number, rows=number)


def main() -> None:
    """Fork the writers, and wait for them; a writer that fails prints its error."""
    address, dispatches, count = pickle.load(sys.stdin.buffer)
    context = multiprocessing.get_context("fork")
    all_ = context.Barrier(len(dispatches))
    writers = [context.Process(target=_append, args=(address, each, count, all_)) for each in dispatches]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    ended = [writer.exitcode for writer in writers]
    if any(ended):
        sys.exit(f"the writers ended with {ended}")


if __name__ == "__main__":
    main()
