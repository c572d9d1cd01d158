"""The `mlops` command: what an operator or a data scientist does from a terminal.

Exit status: 0 success, 1 a problem that was printed, 2 an invalid command line.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_plugin.cli.airflow_context import stored_connections
from mlops_plugin.cli.arguments import build_parser
from mlops_plugin.cli.masked_output import OutputClosed, OutputUnwritable, masked_output
from mlops_plugin.errors import ConfigError, EventStoreError, MlopsError, Problem
from mlops_plugin.formats.native_threads import wait_passively
from mlops_plugin.interruptible import end_beside_abandoned

if TYPE_CHECKING:
    from mlops_plugin.config.loader import LoadedConfig
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment

_GIVEN = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
_OF_CHECKOUT = Path("include", "config.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `mlops` command; returns its exit status.

    Without `arguments` it is the process's own command, and may end the process.
    """
    options = build_parser().parse_args(arguments)
    with masked_output():
        status = _run(options)
    if arguments is None:
        end_beside_abandoned(status)
    return status


def _run(options: argparse.Namespace) -> int:
    try:
        _use_local_environment()
        wait_passively()  # before a command loads numpy
        with stored_connections():
            status = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except MlopsError as error:
        print(f"mlops: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mlops: interrupted", file=sys.stderr)
        return 130
    except OutputUnwritable as error:
        print(f"mlops: the output cannot be written: {error.strerror}", file=sys.stderr)
        _leave_output()
        return 1
    except OutputClosed:
        _leave_output()
        return 1
    except Exception:  # noqa: BLE001 -- a fault of ours: printed as Python prints it, but masked
        print(traceback.format_exc(), end="", file=sys.stderr)
        return 1
    return status


def _leave_output() -> None:
    """Let what is still to be written go nowhere: Python would complain about it as it ends."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - no file
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _use_local_environment() -> None:
    """In a folder that `make up` has set up, use its Airflow, unless the environment names another.

    A connection or Variable that the caller gives wins over the one that `make up` remembers.
    """
    if "AIRFLOW_HOME" in os.environ:
        return
    from mlops_plugin.cli.local_environment import local_environment

    for name, value in (local_environment(Path()) or {}).items():
        if not (name in os.environ and name.startswith(_GIVEN)):
            os.environ[name] = value


def _config_path(options: argparse.Namespace, *, may_be_missing: bool = False) -> Path:
    from mlops_plugin.config.loader import find_config_file, read_config_text, shown_path

    path: Path | None = options.config
    if path is not None and not may_be_missing and read_config_text(path) is None:
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
        print(f"{error}\n{path}: cannot be used; {'1 problem' if count == 1 else f'{count} problems'}")
        return 1
    if options.parity is not None:
        return _check_parity(loaded, options)
    deployment = _deployment(loaded) if options.connect or options.round_trip else None
    failed = check_models(loaded, options.models, deployment, is_round_trip=options.round_trip)
    return 1 if failed else 0


def _check_parity(loaded: LoadedConfig, options: argparse.Namespace) -> int:
    from mlops_plugin.cli.parity import report_parity

    if len(options.models) != 1:
        raise ConfigError([Problem("--parity", None, "", "name one model: mlops check MODEL --parity FILE")])
    model = loaded.model(options.models[0])
    is_confined = loaded.config.serving.require_confinement
    return 1 if report_parity(model, options.parity, must_be_confined=is_confined) else 0


def _sign(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.sign import sign_in_terminal

    loaded = _load(options)
    model = loaded.model(options.model)
    sign_in_terminal(model, _deployment(loaded), options.rows, options.query, synthetic=options.synthetic)
    return 0


def _interval(given: Sequence[datetime], model: ModelConfig) -> tuple[datetime, datetime]:
    zone = ZoneInfo(model.timezone)
    start, end = (moment if moment.tzinfo else moment.replace(tzinfo=zone) for moment in given)
    try:
        is_ordered = start.astimezone(UTC) <= end.astimezone(UTC)
    except OverflowError as error:
        message = "a time is before the year 1 or after the year 9999 in UTC"
        raise ConfigError([Problem("--interval", None, "", message)]) from error
    if not is_ordered:
        message = f"it ends at {end.isoformat()}, before it starts at {start.isoformat()}"
        raise ConfigError([Problem("--interval", None, "", f"{message}; give START, then END")])
    return start, end


def _dispatch(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.dispatch import dispatch_in_terminal

    loaded = _load(options)
    model = loaded.model(options.model)
    interval = _interval(options.interval, model) if options.interval else None
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


def _init(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.init import add_model

    add_model(_config_path(options, may_be_missing=True), options)
    return 0


def _models(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.models import print_models

    loaded = _load(options)
    print_models(loaded, _deployment(loaded), output=options.output)
    return 0


def _schema(options: argparse.Namespace) -> int:
    from mlops_plugin.config import reference
    from mlops_plugin.config.format_names import foreign_names

    print(
        reference.markdown()
        if options.markdown
        else json.dumps(reference.json_schema(foreign_names()), indent=2)
    )
    return 0


def _db_upgrade(options: argparse.Namespace) -> int:
    from mlops_plugin.cli.known_secrets import learn_secrets_of
    from mlops_plugin.events.migrating import current, upgrade
    from mlops_plugin.events.tables import SCHEMA_VERSION

    logging.getLogger("alembic").setLevel(logging.WARNING)  # what each migration does is no user's concern
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


def _environments_sync(options: argparse.Namespace) -> int:
    from mlops_plugin.environments.sync import sync

    loaded = _load(options)
    models = [loaded.model(options.model)] if options.model else [*loaded.config.models.values()]
    # The entry of a broken model does not tell which environment it uses.
    is_unsure = not options.model and bool(loaded.problems)
    is_whole = sync(models, _say, options.wheels, are_all=not options.model and not is_unsure)
    if is_unsure:
        _say("some models could not be read, so nothing was removed; run: mlops check")
    return 0 if is_whole and not is_unsure else 1


def _say(line: str) -> None:
    print(line, flush=True)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "check": _check,
    "dispatch": _dispatch,
    "cursor": _cursor,
    "baseline": _baseline,
    "sign": _sign,
    "serve": _serve,
    "init": _init,
    "models": _models,
    "schema": _schema,
    "db_upgrade": _db_upgrade,
    "db_current": _db_current,
    "roles_sync": _roles_sync,
    "environments_sync": _environments_sync,
}
