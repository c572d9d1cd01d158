"""Shows a waiting person what happens: steps with their seconds, and commands that write to a log."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

REPEAT_S = 10.0  # how often a running step reports if the output is not a terminal
TAIL_BYTES = 64_000
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CAUSE = re.compile(r"\b(\w*(Error|Exception|Missing|Unusable)\b|error:|fatal:|ERROR|CRITICAL)")
WIDTH = 100

Tick = Callable[[str], None]


class LocalStackError(Exception):
    """Airflow could not be installed, started or stopped on this machine."""


@contextmanager
def step(title: str) -> Iterator[Tick]:
    """Announce a step and, at its end, its seconds; yields a function to call with news while it runs."""
    started = shown = time.monotonic()
    terminal = sys.stdout.isatty()

    def say(text: str, end: str = "\n") -> None:
        line = f"  {title} ... {time.monotonic() - started:.0f} s {text}".rstrip()[:WIDTH]
        print(f"\r\x1b[K{line}" if terminal else line, end=end, flush=True)

    def tick(news: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= (0.5 if terminal else REPEAT_S):
            shown = now
            say(news, end="" if terminal else "\n")

    if terminal:
        say("", end="")
    else:
        print(f"  {title} ...", flush=True)
    try:
        yield tick
    except BaseException:
        say("failed")
        raise
    say("done")


def run(title: str, command: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: Path) -> None:
    """Run a command as one step, its output in `log`; raises `LocalStackError` with the cause it wrote."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with step(title) as tick, log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                tick(last_line(log))
                time.sleep(0.1)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.returncode:
            raise LocalStackError(f"{title} failed: {cause(log)}\nThe whole log: {log}")


def last_line(log: Path) -> str:
    lines = tail(log)
    return lines[-1] if lines else ""


def cause(log: Path) -> str:
    """The last line of a log that looks like the reason of a failure; else its last line."""
    lines = tail(log)
    reasons = [line for line in lines if CAUSE.search(line)]
    return (reasons or lines or ["(the log is empty)"])[-1]


def tail(log: Path) -> list[str]:
    """The last lines of a log, without blank ones and terminal colours."""
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = stream.read().decode(errors="replace")
    lines = (ANSI.sub("", line).strip() for line in re.split(r"[\r\n]+", text))
    return [line for line in lines if line]
