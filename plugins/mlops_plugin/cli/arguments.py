"""The options of the `mlops` command."""

from __future__ import annotations

import argparse
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

_MOST_ROWS = 2**63 - 1
_MOST_WORKERS = 1000


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; `command` of what it parses is the name of a function of `mlops`."""
    parser = argparse.ArgumentParser(
        prog="mlops", description="Machine-learning models on Airflow, from the terminal."
    )
    parser.add_argument(
        "--config", type=Path, help="config.yaml to use (default: [mlops] config_file of Airflow)"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_check(commands)
    _add_dispatch(commands)
    _add_cursor(commands)
    _add_baseline(commands)
    _add_sign(commands)
    _add_serve(commands)
    _add_init(commands)
    _add_models(commands)
    _add_schema(commands)
    _add_db(commands)
    _add_environments(commands)
    _add_roles(commands)
    return parser


def _add_command(commands: Any, name: str, help: str) -> argparse.ArgumentParser:
    """A command whose own `--help` begins with what the list of commands says of it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}."
    )
    return parser


def _add_check(commands: Any) -> None:
    check = _add_command(commands, "check", help="list every problem in the configuration")
    check.add_argument("models", nargs="*", metavar="MODEL", help="only these models (default: all)")
    check.add_argument(
        "--connect",
        action="store_true",
        help="also open connections, prepare queries, load artifacts and compare columns",
    )
    check.add_argument(
        "--round-trip",
        action="store_true",
        help="like --connect, and also write golden rows to a temporary table of the source and read them "
        "back",
    )
    check.add_argument(
        "--parity",
        type=Path,
        metavar="FILE",
        help="for one model: compare its answers with the expected ones in a Parquet, CSV or JSON file of "
        "its features and, in columns named as in the predictions table, the answers",
    )
    check.set_defaults(command="check")


def _add_dispatch(commands: Any) -> None:
    dispatch = _add_command(commands, "dispatch", help="run a model's steps in this process, without Airflow")
    dispatch.add_argument("model", metavar="MODEL")
    dispatch.add_argument("--limit", type=_positive, metavar="N", help="dispatch at most N rows")
    dispatch.add_argument("--dry-run", action="store_true", help="do everything except write predictions")
    dispatch.add_argument(
        "--interval",
        nargs=2,
        type=_moment,
        metavar=("START", "END"),
        help="data interval for the query, in ISO 8601; times without an offset are in the model's timezone, "
        "and the logical date is START (default: the last complete interval of the schedule, and now)",
    )
    dispatch.add_argument(
        "--quarantined", action="store_true", help="dispatch only rows whose keys are in the quarantine"
    )
    dispatch.add_argument(
        "--overwrite-newer",
        action="store_true",
        help="also replace predictions of newer dispatches, which read their rows later or have a later "
        "data interval",
    )
    dispatch.set_defaults(command="dispatch")


def _add_cursor(commands: Any) -> None:
    cursor = _add_command(
        commands, "cursor", help="show or set the watermark of models that read only new rows"
    )
    cursor.add_argument(
        "model", nargs="?", metavar="MODEL", help="only this model, with its latest watermarks"
    )
    change = cursor.add_mutually_exclusive_group()
    change.add_argument("--set", metavar="VALUE", help="the next dispatch reads from VALUE on, minus the lag")
    change.add_argument("--reset", action="store_true", help="the next dispatch starts at `initial`")
    cursor.set_defaults(command="cursor", complain=cursor.error)


def _add_baseline(commands: Any) -> None:
    baseline = _add_command(
        commands,
        "baseline",
        help="record what a model's features look like, for its contract and the Showroom",
    )
    baseline.add_argument("model", metavar="MODEL")
    baseline.add_argument(
        "--query",
        metavar="SQL",
        help="rows to summarize, e.g. the training data (default: the model's query)",
    )
    baseline.set_defaults(command="baseline")


def _add_sign(commands: Any) -> None:
    sign = _add_command(
        commands,
        "sign",
        help="write a model's signature: its input columns, and golden rows with the model's answers",
    )
    sign.add_argument("model", metavar="MODEL")
    rows = sign.add_mutually_exclusive_group()
    rows.add_argument("--rows", type=Path, metavar="FILE", help="training rows: a Parquet, CSV or JSON file")
    rows.add_argument("--query", metavar="SQL", help="rows to choose from (default: the model's query)")
    sign.add_argument(
        "--synthetic",
        action="store_true",
        help="store made-up rows instead of real ones, which may be personal data",
    )
    sign.set_defaults(command="sign")


def _add_serve(commands: Any) -> None:
    serve = _add_command(
        commands, "serve", help="serve single predictions to programs, in the Open Inference Protocol"
    )
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    serve.add_argument(
        "--port", type=_port, default=8085, metavar="N", help="port to listen on (default: %(default)s)"
    )
    serve.add_argument(
        "--workers",
        type=_workers,
        default=max(1, _cores() // 2),
        metavar="N",
        help="number of processes, each with its own copy of the models (default: one per two cores, since a "
        "model computes beside it, here %(default)s)",
    )
    serve.set_defaults(command="serve")


def _add_models(commands: Any) -> None:
    models = _add_command(commands, "models", help="list the models and their states")
    models.add_argument(
        "--output",
        "-o",
        choices=("table", "json", "plain"),
        default="table",
        help="form of the list, as in Airflow's own commands (default: %(default)s)",
    )
    models.set_defaults(command="models")


def _add_schema(commands: Any) -> None:
    schema = _add_command(commands, "schema", help="print the JSON Schema of config.yaml, for editors")
    schema.add_argument(
        "--markdown", action="store_true", help="print the reference of all keys as Markdown instead"
    )
    schema.set_defaults(command="schema")


def _add_db(commands: Any) -> None:
    database = _add_command(commands, "db", help="create or upgrade the event store's tables")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    upgrade = _add_command(
        actions, "upgrade", help="create the tables or bring them up to date; safe to repeat"
    )
    upgrade.set_defaults(command="db_upgrade")
    current = _add_command(actions, "current", help="print the version of the tables")
    current.set_defaults(command="db_current")


def _add_roles(commands: Any) -> None:
    roles = _add_command(commands, "roles", help="manage the permissions of Airflow's roles on the views")
    role_actions = roles.add_subparsers(required=True, metavar="ACTION")
    sync = _add_command(
        role_actions, "sync", help="create the views' permissions and grant them to Airflow's roles"
    )
    sync.set_defaults(command="roles_sync")


def _add_environments(commands: Any) -> None:
    environments = _add_command(
        commands, "environments", help="build the environments of models' own libraries"
    )
    actions = environments.add_subparsers(required=True, metavar="ACTION")
    sync = _add_command(
        actions, "sync", help="build what is missing, and remove what no model uses; safe to repeat"
    )
    sync.add_argument("model", nargs="?", metavar="MODEL", help="only this model's, removing nothing")
    sync.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="install from the wheels in FOLDER, without a network"
    )
    sync.set_defaults(command="environments_sync")


def _add_init(commands: Any) -> None:
    init = _add_command(
        commands,
        "init",
        help="add a model: read its file and its query, and write its entry into the configuration",
    )
    init.add_argument("name", nargs="?", metavar="NAME", help="the model's name, which is also its DAG id")
    init.add_argument("--model", metavar="FILE", help="the model's file, in any format that is served")
    init.add_argument("--connection", metavar="ID", help="Airflow connection of the rows")
    init.add_argument("--query", metavar="SQL", help="the SELECT that returns the rows")
    init.add_argument(
        "--key",
        metavar="COLUMNS",
        help="columns that identify a row, separated by commas (default: detected)",
    )
    init.add_argument(
        "--features",
        metavar="COLUMNS",
        help="the model's columns in order, separated by commas, if the model does not know them",
    )
    init.add_argument(
        "--classes",
        metavar="LABELS",
        help="a classifier's labels in order, separated by commas, if the model's file does not hold them",
    )
    init.add_argument(
        "--registry",
        metavar="CONNECTION",
        help="Airflow connection of the MLflow server, for models:/NAME@ALIAS or models:/NAME/VERSION",
    )
    init.add_argument(
        "--requirements",
        type=Path,
        metavar="FILE",
        help="requirements file of the model's own libraries, whose environment is built now",
    )
    init.add_argument(
        "--python",
        type=_python,
        metavar="VERSION",
        help="Python of those libraries, e.g. 3.11 (default: the one that runs this)",
    )
    init.add_argument("--truth", metavar="COLUMN", help="column with the known outcome, for the Showroom")
    init.add_argument(
        "--schedule", metavar="WHEN", help="when to dispatch, e.g. @hourly (default: by hand only)"
    )
    init.add_argument(
        "--sink", metavar="ID", help="connection of the predictions (default: that of the rows)"
    )
    init.add_argument("--table", metavar="TABLE", help="table of the predictions (default: NAME_predictions)")
    init.add_argument(
        "--trust", action="store_true", help="trust the types in a skops file that skops does not know"
    )
    init.add_argument("--yes", action="store_true", help="ask nothing: take what is proposed")
    init.set_defaults(command="init")


def _python(text: str) -> str:
    if not re.fullmatch(r"3\.1[0-9]", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no Python from 3.10 on; write e.g. 3.11")
    return text


def _positive(text: str, most: int = _MOST_ROWS) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= most:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to {most}")
    return number


def _port(text: str) -> int:
    return _positive(text, 65_535)


def _workers(text: str) -> int:
    return _positive(text, _MOST_WORKERS)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a time; write e.g. 2026-01-31T06:00:00+00:00"
        ) from error
    return moment
