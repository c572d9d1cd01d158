"""A hundred hosts that do not answer, and one that does, probed at once as the Monitor does it.

Beside it plain connections, one thread each. What counts is how long the report comes after the timeout, and
how soon the living host is known.

    python -m benchmarks.probes [--hosts 100] [--timeout 2] [--repeat 3]
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlops_plugin.monitoring.board import ProbeBoard, probe_all
from mlops_plugin.monitoring.targets import HostTarget
from support.listeners import deaf_listener, listener


def seconds(work: Callable[[], object], repeat: int) -> float:
    """The median of several runs."""
    spent = []
    for _ in range(repeat):
        began = time.monotonic()
        work()
        spent.append(time.monotonic() - began)
    return statistics.median(spent)


def connect(address: tuple[str, int], timeout_s: float) -> None:
    """What a script would do for one host."""
    with contextlib.suppress(TimeoutError):
        socket.create_connection(address, timeout_s).close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100, choices=range(1, 251), metavar="1..250")
    parser.add_argument("--timeout", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=3)
    options, _ = parser.parse_known_args(arguments)
    with deaf_listener() as dead, listener() as living:
        names = [f"127.0.0.{number}" for number in range(1, options.hosts + 1)]
        targets = [HostTarget(name, dead, name) for name in names]
        alive = HostTarget("alive", living, "127.0.0.1")

        def threads() -> None:
            with ThreadPoolExecutor(options.hosts) as pool:
                list(pool.map(lambda name: connect((name, dead), options.timeout), names))

        def first_news() -> None:
            board = ProbeBoard()
            while board.look([*targets, alive], refresh_s=60, timeout_s=options.timeout)[-1].result is None:
                time.sleep(0.001)

        plain = seconds(threads, options.repeat)
        probed = seconds(lambda: probe_all(targets, timeout_s=options.timeout), options.repeat)
        known = seconds(first_news, options.repeat)
    print(f"{options.hosts} hosts that do not answer, timeout {options.timeout:g} s")
    print(f"{'':26} {'seconds':>8} {'beyond the timeout':>19}")
    print(f"{'plain connections, threads':26} {plain:8.2f} {plain - options.timeout:19.2f}")
    print(f"{'Monitor':26} {probed:8.2f} {probed - options.timeout:19.2f}")
    print(f"{'Monitor, a living host':26} {known:8.2f}")


if __name__ == "__main__":
    main()
