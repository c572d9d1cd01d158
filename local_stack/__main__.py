"""`python -m local_stack up|down|status`, called by the Makefile."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from local_stack import stack
from local_stack.layout import this_checkout
from local_stack.progress import LocalStackError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make", description="Airflow on this machine, with the demo")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up")
    up.add_argument("--port", type=_port, default=8080)
    up.add_argument("--host", default="127.0.0.1")
    commands.add_parser("down")
    commands.add_parser("status")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    layout = this_checkout()
    try:
        if options.command == "up":
            stack.up(layout, options.host, options.port)
        elif options.command == "down":
            stack.down(layout)
        else:
            return 0 if stack.status(layout) else 1
    except LocalStackError as failure:
        print(f"\nmake {options.command}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nmake {options.command}: interrupted; `make status` shows what is running", file=sys.stderr)
        return 130
    return 0


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a port; give a number from 1 to 65535")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
