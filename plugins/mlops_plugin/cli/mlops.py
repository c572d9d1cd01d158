"""The `mlops` command: what an operator or a data scientist does from a terminal.

Exit status: 0 success, 1 a problem that was printed, 2 an invalid command line.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_plugin.cli.airflow_context import stored_connections
from mlops_plugin.cli.masked_output import masked_output
from mlops_plugin.errors import ConfigError, EventStoreError, MlopsError, Problem

if TYPE_CHECKING:
    from mlops_plugin.config.loader import LoadedConfig
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment

_GIVEN = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
_OF_CHECKOUT = Path("include", "config.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `mlops` command; returns its exit status."""
    options = _parser().parse_args(arguments)
    _use_local_environment()
    with stored_connections(), masked_output():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        status: int = options.run(options)
    except MlopsError as error:
        print(f"mlops: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mlops: interrupted", file=sys.stderr)
        return 130
    except Exception:  # noqa: BLE001 -- a fault of ours: printed as Python prints it, but masked
        print(traceback.format_exc(), end="", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlops", description="Machine-learning models on Airflow, from the terminal."
    )
    parser.add_argument(
        "--config", type=Path, help="config.yaml to use (default: [mlops] config_file of Airflow)"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="list every problem in the configuration")
    check.add_argument("models", nargs="*", metavar="MODEL", help="only these models (default: all)")
    check.add_argument(
        "--connect",
        action="store_true",
        help="also open connections, prepare queries, load artifacts, compare columns",
    )
    check.add_argument(
        "--round-trip",
        action="store_true",
        help="like --connect, and send golden rows through a temporary table of the source",
    )
    check.set_defaults(run=_check)

    dispatch = commands.add_parser("dispatch", help="run a model's steps in this process, without Airflow")
    dispatch.add_argument("model", metavar="MODEL")
    dispatch.add_argument("--limit", type=_positive, metavar="N", help="dispatch at most N rows")
    dispatch.add_argument("--dry-run", action="store_true", help="do everything except write predictions")
    dispatch.add_argument(
        "--interval",
        nargs=2,
        type=_moment,
        metavar=("START", "END"),
        help="data interval for the query, ISO 8601; without an offset in the model's timezone (default: the "
        "last complete one of the schedule)",
    )
    dispatch.add_argument(
        "--quarantined", action="store_true", help="dispatch only the rows whose keys are in quarantine"
    )
    dispatch.add_argument(
        "--overwrite-newer",
        action="store_true",
        help="also replace predictions of rows that were read later, or of a later data interval",
    )
    dispatch.set_defaults(run=_dispatch)

    cursor = commands.add_parser("cursor", help="show or set the watermark of models that read only new rows")
    cursor.add_argument("model", nargs="?", metavar="MODEL", help="only this model, with its last watermarks")
    change = cursor.add_mutually_exclusive_group()
    change.add_argument("--set", metavar="VALUE", help="the next dispatch reads from VALUE on, minus the lag")
    change.add_argument("--reset", action="store_true", help="the next dispatch starts at `initial`")
    cursor.set_defaults(run=_cursor, complain=cursor.error)

    baseline = commands.add_parser(
        "baseline", help="record what a model's features look like, for its contract and the Showroom"
    )
    baseline.add_argument("model", metavar="MODEL")
    baseline.add_argument(
        "--query",
        metavar="SQL",
        help="rows to summarize, e.g. the training data (default: the model's query)",
    )
    baseline.set_defaults(run=_baseline)

    sign = commands.add_parser(
        "sign", help="write a model's signature: its input columns, and rows with its answers"
    )
    sign.add_argument("model", metavar="MODEL")
    rows = sign.add_mutually_exclusive_group()
    rows.add_argument("--rows", type=Path, metavar="FILE", help="training rows: a Parquet, CSV or JSON file")
    rows.add_argument("--query", metavar="SQL", help="rows to choose from (default: the model's query)")
    sign.add_argument(
        "--synthetic",
        action="store_true",
        help="make rows up instead of storing real ones, which may be personal",
    )
    sign.set_defaults(run=_sign)

    serve = commands.add_parser(
        "serve", help="answer single predictions for programs, in the Open Inference Protocol"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--port", type=_positive, default=8085, metavar="N", help="port to listen on (default: %(default)s)"
    )
    serve.add_argument(
        "--workers",
        type=_positive,
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        metavar="N",
        help="processes, each with models of its own (default: one for each core, here %(default)s)",
    )
    serve.set_defaults(run=_serve)

    schema = commands.add_parser("schema", help="print the JSON Schema of config.yaml, for editors")
    schema.add_argument(
        "--markdown", action="store_true", help="print the reference of all parameters instead"
    )
    schema.set_defaults(run=_schema)

    database = commands.add_parser("db", help="create or upgrade the event store's tables")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    upgrade = actions.add_parser("upgrade", help="create the tables or bring them up to date; safe to repeat")
    upgrade.set_defaults(run=_db_upgrade)
    current = actions.add_parser("current", help="print the version of the tables")
    current.set_defaults(run=_db_current)

    roles = commands.add_parser("roles", help="grant Airflow's roles the right to see and use the views")
    role_actions = roles.add_subparsers(required=True, metavar="ACTION")
    sync = role_actions.add_parser(
        "sync", help="create the views' permissions and grant them to Airflow's roles"
    )
    sync.set_defaults(run=_roles_sync)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of rows; give 1 or more")
    return number


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a time; write e.g. 2026-01-31T06:00:00+00:00"
        ) from error
    return moment


def _use_local_environment() -> None:
    """In a folder that `make up` has set up, use its Airflow, unless the environment names another.

    A connection or Variable that the caller gives wins over the one that `make up` remembers.
    """
    if "AIRFLOW_HOME" in os.environ:
        return
    from mlops_plugin.cli.local_environment import local_environment

    for name, value in (local_environment(Path.cwd()) or {}).items():
        if not (name in os.environ and name.startswith(_GIVEN)):
            os.environ[name] = value


def _config_path(options: argparse.Namespace) -> Path:
    from mlops_plugin.config.loader import find_config_file, shown_path

    path: Path | None = options.config
    if path is not None and not path.exists():
        raise ConfigError([Problem(shown_path(path), None, "", "no such file")])
    # A checkout in which nothing but the packages was installed.
    is_configured = "AIRFLOW_HOME" in os.environ or "AIRFLOW__MLOPS__CONFIG_FILE" in os.environ
    if path is None and not is_configured and _OF_CHECKOUT.is_file():
        return _OF_CHECKOUT.absolute()
    return path or find_config_file()


def _load(options: argparse.Namespace) -> LoadedConfig:
    from mlops_plugin.config.loader import load_config

    return load_config(_config_path(options))


def _deployment(loaded: LoadedConfig) -> Deployment:
    from mlops_plugin.pipeline.deployment import Deployment

    config = loaded.config
    return Deployment.of_airflow(
        config.events, config.staging, requires_confinement=config.serving.require_confinement
    )


def _check(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.check import check_models
    from mlops_plugin.config.loader import load_config

    path = _config_path(options)
    try:
        loaded = load_config(path)
    except ConfigError as error:  # findings as well: on the same stream
        count = len(error.problems)
        print(f"{error}\n{path}: not usable; {'1 problem' if count == 1 else f'{count} problems'}")
        return 1
    deployment = _deployment(loaded) if options.connect or options.round_trip else None
    failed = check_models(loaded, options.models, deployment, is_round_trip=options.round_trip)
    return 1 if failed else 0


def _sign(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.sign import sign_in_terminal

    loaded = _load(options)
    model = loaded.model(options.model)
    sign_in_terminal(model, _deployment(loaded), options.rows, options.query, synthetic=options.synthetic)
    return 0


def _in_zone(moment: datetime, model: ModelConfig) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(model.timezone))


def _dispatch(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.dispatch import dispatch_in_terminal

    loaded = _load(options)
    model = loaded.model(options.model)
    interval = None
    if options.interval:
        start, end = (_in_zone(moment, model) for moment in options.interval)
        interval = (start, end)
    # Ended by the system: like Ctrl-C, so that the dispatch is recorded as failed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    dispatch_in_terminal(
        model,
        _deployment(loaded),
        interval=interval,
        row_limit=options.limit,
        is_dry_run=options.dry_run,
        is_quarantined=options.quarantined,
        overwrites_newer=options.overwrite_newer,
    )
    return 0


def _cursor(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.cursor import set_mark_in_terminal, show_marks

    is_change = options.reset or options.set is not None
    if is_change and options.model is None:
        options.complain("--set and --reset need a MODEL")
    loaded = _load(options)
    if is_change:
        set_mark_in_terminal(loaded.model(options.model), _deployment(loaded), options.set)
    elif options.model is not None:
        show_marks([loaded.model(options.model)], _deployment(loaded), history=10)
    else:
        models = [model for model in loaded.config.models.values() if model.source.cursor is not None]
        show_marks(models, _deployment(loaded))
    return 0


def _baseline(options: argparse.Namespace) -> int:
    from mlops_plugin.orchestration.rendering import render
    from mlops_plugin.pipeline.validation.baseline_making import baseline_uri, make_from_query

    loaded = _load(options)
    model = loaded.model(options.model)
    query = render(options.query or model.source.query, model, moment=datetime.now(UTC))
    baseline = make_from_query(model, _deployment(loaded), query)
    print(f"{baseline_uri(model)}: {len(baseline.features)} features of {baseline.rows:,} rows")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.serve import serve_in_terminal

    # Its processes look for the configuration by themselves.
    os.environ["AIRFLOW__MLOPS__CONFIG_FILE"] = str(_config_path(options).absolute())
    _load(options)
    serve_in_terminal(options.host, options.port, options.workers)
    return 0


def _schema(options: argparse.Namespace) -> int:
    from mlops_plugin.config import reference

    print(reference.markdown() if options.markdown else json.dumps(reference.json_schema(), indent=2))
    return 0


def _db_upgrade(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.known_secrets import learn_secrets_of
    from mlops_plugin.events.migrating import current, upgrade
    from mlops_plugin.events.tables import SCHEMA_VERSION

    loaded = _load(options)
    with _deployment(loaded).event_store() as store:
        if current(store.address) not in (None, SCHEMA_VERSION):
            learn_secrets_of(loaded.config)  # migrations clean what earlier versions have stored
        print(f"event store ({store.address}): version {upgrade(store.address)}")
    return 0


def _db_current(options: argparse.Namespace) -> int:
    from mlops_plugin.events.migrating import current

    with _deployment(_load(options)).event_store() as store:
        version = current(store.address)
    if version is None:
        raise EventStoreError(f"event store ({store.address}): no tables; run: mlops db upgrade")
    print(f"event store ({store.address}): version {version}")
    return 0


def _roles_sync(_options: argparse.Namespace) -> int:
    from mlops_plugin.orchestration.roles import sync_roles

    print(f"permissions of the views granted to {', '.join(sync_roles())}")
    return 0
