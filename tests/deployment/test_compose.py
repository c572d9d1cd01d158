"""docker-compose.yaml is right: by the Compose specification, by its own rules, and by running what it says.

There may be no Docker engine here. The services' commands run with their environment as processes of this
machine, against MariaDB in the place of MySQL.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from local_stack.airflow_api import AirflowApi
from mlops_plugin.config.schema import EventsConfig, StagingConfig
from mlops_plugin.environments import location as environments
from mlops_plugin.formats.registry import model_cache
from support.compose_file import CHECKOUT, FILE, Host, interpolate, load, new_env
from support.servers import Server, free_port, start_mariadb

DISPATCHED_WITHIN_S = 600
WINES = 89


def test_the_file_follows_the_compose_specification() -> None:
    done = _check_schema(FILE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_check_would_notice_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yaml"
    wrong.write_text(FILE.read_text().replace("condition: service_healthy", "condition: service_happy"))
    assert _check_schema(wrong).returncode == 1


def test_every_secret_is_required() -> None:
    complete = new_env()
    load(complete)
    for name in complete:
        if name.endswith(("_PASSWORD", "_KEY", "_SECRET")):
            with pytest.raises(ValueError, match=name):
                load({**complete, name: ""})


def test_no_secret_has_a_default() -> None:
    loaded = load(dict.fromkeys(new_env(), "VALUE"))
    for service in loaded["services"].values():
        for name, value in service.get("environment", {}).items():
            if name.endswith(("_PASSWORD", "_KEY", "_SECRET")):
                assert value == "VALUE"


def test_new_secrets_differ_every_time_and_need_no_quoting() -> None:
    first, second = new_env(), new_env()
    secrets = [name for name in first if name.endswith(("_PASSWORD", "_KEY", "_SECRET"))]
    assert len(secrets) >= 10
    values = [env[name] for env in (first, second) for name in secrets]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 40 for value in values)
    assert not set("".join(values)) & set("/+@:?#%&'\"$\\ ")


def test_images_are_pinned() -> None:
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    images = [service["image"] for service in load(new_env())["services"].values()]
    images += [line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")]
    for image in images:
        _, colon, tag = image.partition(":")
        assert colon, image
        assert any(character.isdigit() for character in tag), image


def test_only_the_two_servers_are_published_and_to_this_machine_only() -> None:
    services = load({**new_env(), "MLOPS_PORT": "8081", "MLOPS_SERVE_PORT": "8086"})["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"api-server": ["127.0.0.1:8081:8080"], "serve": ["127.0.0.1:8086:8085"]}


@pytest.mark.parametrize("umask", [0o022, 0o000])
@pytest.mark.parametrize("command", ["sh docker/new-env.sh {}", "sh docker/new-env.sh > {}"])
def test_only_its_owner_reads_the_secrets(tmp_path: Path, command: str, umask: int) -> None:
    made = tmp_path / ".env"
    subprocess.run(
        ["sh", "-c", command.format(made)], cwd=CHECKOUT, check=True, preexec_fn=lambda: os.umask(umask)
    )
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert made.read_text().count("_PASSWORD=") == 8


def test_new_secrets_do_not_replace_those_that_are_there(tmp_path: Path) -> None:
    made = tmp_path / ".env"
    made.write_text("FERNET_KEY=kept")
    done = subprocess.run(["sh", "docker/new-env.sh", made], cwd=CHECKOUT, check=False, capture_output=True)
    assert done.returncode != 0
    assert made.read_text() == "FERNET_KEY=kept"


SECRETS_OF = {
    "mysql": {"MYSQL_ROOT", "AIRFLOW_DB", "EVENTS_DB", "DEMO_SETUP", "DEMO_SOURCE", "DEMO_SINK"},
    "init": {"FERNET", "AIRFLOW_DB", "EVENTS_DB", "DEMO_SETUP", "DEMO_SOURCE", "DEMO_SINK", "ADMIN"},
    "api-server": {"FERNET", "AIRFLOW_DB", "EVENTS_DB", "DEMO_SOURCE", "DEMO_SINK", "JWT", "API_SECRET"},
    "serve": {"FERNET", "AIRFLOW_DB", "EVENTS_DB", "JWT"},
    "scheduler": {
        *("FERNET", "AIRFLOW_DB", "EVENTS_DB", "DEMO_SOURCE", "DEMO_SINK", "JWT", "API_SECRET", "REDIS"),
    },
    "dag-processor": {"FERNET", "AIRFLOW_DB"},
    "triggerer": {"FERNET", "AIRFLOW_DB", "API_SECRET"},
    "redis": {"REDIS"},
    "worker": {"FERNET", "AIRFLOW_DB", "EVENTS_DB", "DEMO_SOURCE", "DEMO_SINK", "API_SECRET", "REDIS"},
}


@pytest.mark.parametrize("name", SECRETS_OF)
def test_a_service_gets_the_secrets_that_it_uses_and_no_others(name: str) -> None:
    env = {key: f"value-of-{key}." for key in new_env()}
    services = load(env)["services"]
    assert set(services) == set(SECRETS_OF)
    given = " ".join(map(str, services[name]["environment"].values()))
    secrets = {
        key: re.sub("_(PASSWORD|KEY|SECRET)$", "", key)
        for key in env
        if key.endswith(("_PASSWORD", "_KEY", "_SECRET"))
    }
    assert {short for key, short in secrets.items() if f"value-of-{key}." in given} == SECRETS_OF[name]


def test_services_are_limited_in_what_they_may_do_and_take() -> None:
    for name, service in load(new_env())["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"] <= 500, name
        if name in ("mysql", "redis"):  # their entrypoints change to another account
            continue
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name


def test_what_models_write_below_airflow_home_lies_on_a_volume() -> None:
    """Their root is read-only: another folder would fail in Compose only."""
    written: list[str | Path] = [
        StagingConfig().url,
        EventsConfig().path,
        environments.FOLDER,
        model_cache.FOLDER,
    ]
    for name, service in load(new_env())["services"].items():
        if name in ("mysql", "redis", "init"):
            continue
        writable = {Path(volume.split(":")[1]) for volume in service["volumes"] if not volume.endswith(":ro")}
        for path in written:
            assert writable.intersection(Path("/opt/airflow", path).parents), (name, path)


def test_the_code_in_the_image_belongs_to_root() -> None:
    """What is copied is handed to root before the image is done, and airflow owns what volumes cover only."""
    lines = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    last_copy = max(number for number, line in enumerate(lines) if line.startswith("COPY "))
    (handed,) = (line for line in lines[last_copy:] if line.startswith("RUN chown root:0 ."))
    owned = handed.partition("chown -R root:0")[2].partition("&&")[0].split()
    top = {path.split("/")[0] for path in _copied()}
    assert {path for path in top if not any(fnmatch(path, pattern) for pattern in owned)} == set()
    assert "chmod -R go-w ." in handed
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER airflow"


def test_libraries_are_loaded_where_tasks_run_and_one_variable_turns_it_off() -> None:
    assert "COPY --chown=airflow:0 local_stack/airflow_local_settings.py ./config/\n" in (
        CHECKOUT / "Dockerfile"
    ).read_text(encoding="utf-8")
    for said, expected in (({}, "true"), ({"AIRFLOW__MLOPS__PRELOAD": "false"}, "false")):
        services = load({**new_env(), **said})["services"]
        for name in ("scheduler", "worker"):
            assert services[name]["environment"]["AIRFLOW__MLOPS__PRELOAD"] == expected


def test_every_lasting_service_has_a_healthcheck_and_restarts() -> None:
    for name, service in load(new_env())["services"].items():
        if name != "init":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_nothing_starts_before_what_it_needs() -> None:
    services = load(new_env())["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            expected = "service_completed_successfully" if needed == "init" else "service_healthy"
            assert how["condition"] == expected, (name, needed)
    assert {"init"} <= set(services["api-server"]["depends_on"])
    assert {"init", "api-server"} == set(services["scheduler"]["depends_on"])
    assert {"init", "redis", "api-server"} == set(services["worker"]["depends_on"])


def test_redis_and_workers_belong_to_the_distributed_profile_only() -> None:
    services = load(new_env())["services"]
    distributed = {name for name, service in services.items() if service.get("profiles") == ["distributed"]}
    assert distributed == {"redis", "worker"}


def test_what_the_file_mounts_and_the_image_copies_exists() -> None:
    sources = {
        volume.split(":")[0]
        for service in load(new_env())["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    }
    missing = [path for path in sources | _copied() if not (CHECKOUT / path).exists()]
    assert not missing


def test_interpolation_follows_compose() -> None:
    assert interpolate("$${A} ${A} ${B:-x} ${A:-x}", {"A": "1"}) == "${A} 1 x 1"
    with pytest.raises(ValueError, match="B: say it"):
        interpolate("${B:?say it}", {"B": ""})


def _copied() -> set[str]:
    """The files and folders of the checkout that the image holds."""
    return {
        word
        for line in (CHECKOUT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
        if not word.startswith("--")
    }


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    return new_env()


@pytest.fixture(scope="module")
def database(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as the `mysql` service's image would set it up: root with a password, and databases.sh run."""
    with start_mariadb() as server:
        programs = tmp_path_factory.mktemp("programs")
        client = f'exec {shutil.which("mysql")} --no-defaults --socket={server.log.parent / "socket"} "$@"'
        (programs / "mysql").write_text(f"#!/bin/sh\n{client}\n")
        (programs / "mysql").chmod(0o755)
        statement = f"ALTER USER root@localhost IDENTIFIED BY '{env['MYSQL_ROOT_PASSWORD']}'"
        subprocess.run([programs / "mysql", "--user=root", "-e", statement], check=True)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        stated = load(env)["services"]["mysql"]["environment"]
        subprocess.run([CHECKOUT / "docker" / "databases.sh"], check=True, env={**stated, "PATH": path})
        yield server


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, database: Server, env: dict[str, str]) -> Host:
    """This machine with the `init` service done, twice: it may be repeated."""
    home = tmp_path_factory.mktemp("opt-airflow")
    for name in {path.split("/")[0] for path in _copied()}:
        (home / name).symlink_to(CHECKOUT / name)
    api = free_port()
    ports = {
        "mysql:3306": database.port,
        "api-server:8080": api,
        "localhost:8080": api,
        "localhost:8085": free_port(),
        "localhost:8974": free_port(),
        "redis:6379": free_port(),
        "worker:8793": free_port(),
        "triggerer:8794": free_port(),
    }
    host = Host(home, ports)
    service = load(env)["services"]["init"]
    assert "rows written" in host.run(service)
    assert "rows are there already" in host.run(service)
    return host


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.parametrize(
    "executor", [pytest.param(name, marks=pytest.mark.long) for name in ("LocalExecutor", "CeleryExecutor")]
)
def test_the_services_bring_a_dispatch_into_the_database(
    host: Host, database: Server, env: dict[str, str], executor: str
) -> None:
    distributed = executor == "CeleryExecutor"
    services = load({**env, "MLOPS_EXECUTOR": executor})["services"]
    names = [name for name, service in services.items() if distributed or "profiles" not in service]
    with ExitStack() as stack:
        for name in names:
            if name == "redis":
                stack.enter_context(_redis(host, services["redis"]))
            elif name not in ("mysql", "init"):
                stack.enter_context(host.running(name, services[name]))
        for name in names:
            if name not in ("mysql", "init", "redis"):
                host.wait_until_healthy(name, services[name])
        before = _predicted(database)
        _dispatch_wine(host, env["ADMIN_PASSWORD"])
        after = _predicted(database)
        assert len(after - before) == WINES  # upsert: the rows of this dispatch took the place of older ones
        assert len(after) == WINES
    if distributed:
        assert "received" in (host.home / "worker.log").read_text()


def _check_schema(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def _redis(host: Host, service: dict[str, Any]) -> Iterator[None]:
    port = host.ports["redis:6379"]
    shell = [word.replace("redis-server -", f"redis-server - --port {port}") for word in service["command"]]
    with host.running("redis", {**service, "entrypoint": [], "command": shell}):
        check = service["healthcheck"]["test"][1].replace("redis-cli", f"redis-cli -p {port}")
        host.wait_until_healthy("redis", {**service, "healthcheck": {"test": ["CMD-SHELL", check]}}, 120)
        yield


def _dispatch_wine(host: Host, password: str) -> None:
    api = AirflowApi("127.0.0.1", host.ports["api-server:8080"])
    api.sign_in(password)
    for attempt in itertools.count():
        if "wine" in api.dag_ids():
            break
        assert attempt < 300, api.import_errors()
        time.sleep(1)
    before = {run["dag_run_id"] for run in api.runs("wine")}
    api.unpause("wine")
    if before:  # else its schedule starts its first run
        api.trigger("wine")
    deadline = time.monotonic() + DISPATCHED_WITHIN_S
    while True:
        states = [run["state"] for run in api.runs("wine") if run["dag_run_id"] not in before]
        assert "failed" not in states
        if states and set(states) == {"success"}:
            return
        assert time.monotonic() < deadline, states
        time.sleep(1)


def _predicted(database: Server) -> set[tuple[object, ...]]:
    """Which wines have a prediction, and from which dispatch."""
    sink = database.database("demo_sink")
    if not sink.rows("SHOW TABLES LIKE 'wine_predictions'"):
        return set()
    return set(sink.rows("SELECT dispatch_id, id FROM wine_predictions"))
