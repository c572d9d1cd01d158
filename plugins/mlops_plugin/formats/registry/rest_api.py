"""Asks an MLflow server over its REST API, within limits on waiting and size; no other module speaks HTTP.

A request goes to the connection's server only: a redirect is refused, because it would take the token along.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_plugin.errors import RegistryError
from mlops_plugin.formats.artifact import LARGEST_ARTIFACT
from mlops_plugin.masking import masked
from mlops_plugin.wait_limits import RegistryLimits

if TYPE_CHECKING:
    import httpx

    from mlops_plugin.connections import ConnectionSpec

_API = "api/2.0"
_LARGEST_ANSWER = 4 << 20  # bytes of JSON
_CHUNK = 1 << 20
_MOST_SHOWN = 200  # characters of a server's own words
_REFUSED, _MISSING, _FAILED = (401, 403), 404, 500


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FoundVersion(_Answer):
    """A version as the server describes it."""

    name: str = Field(min_length=1)
    version: str = Field(pattern=r"^[0-9]{1,20}$")  # a part of paths
    status: str = "READY"
    status_message: str = ""
    run_id: str | None = None


class _OneVersion(_Answer):
    model_version: FoundVersion


class _Place(_Answer):
    artifact_uri: str = Field(min_length=1)


class ListedFile(_Answer):
    """A file or folder in a folder of artifacts; `path` is its name there."""

    path: str
    is_dir: bool = False
    file_size: int | None = Field(default=None, ge=0)


class _Files(_Answer):
    files: tuple[ListedFile, ...] = ()


_Expected = TypeVar("_Expected", bound=_Answer)


class MlflowServer:
    """The server of an Airflow connection: host, port, schema; user and password, or a token as password."""

    def __init__(self, connection: ConnectionSpec, limits: RegistryLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._client: httpx.Client | None = None
        self.url = _base_url(connection)

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()

    def version_of_alias(self, name: str, alias: str) -> FoundVersion:
        """The version that an alias stands for now."""
        asked = {"name": name, "alias": alias}
        return self._ask("mlflow/registered-models/alias", asked, _OneVersion).model_version

    def version(self, name: str, version: str) -> FoundVersion:
        """A version by its number."""
        asked = {"name": name, "version": version}
        return self._ask("mlflow/model-versions/get", asked, _OneVersion).model_version

    def source(self, name: str, version: str) -> str:
        """Where the files of a version lie."""
        asked = {"name": name, "version": version}
        return self._ask("mlflow/model-versions/get-download-uri", asked, _Place).artifact_uri

    def list_files(self, path: str) -> tuple[ListedFile, ...]:
        """What lies in a folder of the artifacts that the server itself hands out."""
        return self._ask("mlflow-artifacts/artifacts", {"path": path}, _Files).files

    def download(self, path: str, target: IO[bytes], most: int = LARGEST_ARTIFACT) -> int:
        """Write a file of those artifacts into `target`; returns its bytes."""
        size = 0
        with self._answer(f"mlflow-artifacts/artifacts/{quote(path)}", {}, self._limits.download_s) as chunks:
            for chunk in chunks:
                size += len(chunk)
                if size > most:
                    raise self._error(
                        f"the artifact '{path}' has more than {most} bytes; log a smaller model"
                    )
                target.write(chunk)
        return size

    def _ask(self, path: str, asked: Mapping[str, str], kind: type[_Expected]) -> _Expected:
        content = b""
        with self._answer(path, asked, self._limits.answer_s) as chunks:
            for chunk in chunks:
                content += chunk
                if len(content) > _LARGEST_ANSWER:
                    raise self._error(f"the answer to {path} has more than {_LARGEST_ANSWER} bytes")
        try:
            return kind.model_validate(json.loads(content))
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise self._error(f"the answer to {path} is none of MLflow's: {where}: {first['msg']}") from exc
        except (ValueError, RecursionError) as exc:
            raise self._no_json(path, content) from exc

    @contextmanager
    def _answer(self, path: str, asked: Mapping[str, str], limit_s: float) -> Iterator[Iterator[bytes]]:
        """The body of a successful answer, in pieces, all of them within `limit_s`."""
        import httpx  # Airflow brings it; whoever has no registry needs none

        deadline = time.monotonic() + limit_s
        if self._client is None:
            waits = httpx.Timeout(self._limits.answer_s, connect=self._limits.connect_s)
            self._client = httpx.Client(timeout=waits, auth=self._auth(), headers=self._headers())
        try:
            with self._client.stream("GET", f"{self.url}/{_API}/{path}", params=dict(asked)) as answer:
                pieces = self._before(deadline, answer, path, limit_s)
                if answer.status_code != httpx.codes.OK:
                    raise self._refusal(path, answer, b"".join(_first(pieces)))
                yield pieces
        except httpx.TimeoutException as exc:
            raise self._error(f"no answer to {path} within {self._limits.answer_s:g} s; is it up?") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            reason = str(exc) or type(exc).__name__
            raise self._error(f"asking {path} failed: {reason}; check host, port and schema") from exc

    def _before(self, deadline: float, answer: httpx.Response, path: str, limit_s: float) -> Iterator[bytes]:
        """Pieces of a body, while there is time: no byte now and then prolongs it."""
        for chunk in answer.iter_raw():  # as they come: whole ones could be waited for without end
            yield chunk
            if time.monotonic() > deadline:
                raise self._error(f"the answer to {path} was not complete within {limit_s:g} s")

    def _auth(self) -> tuple[str, str] | None:
        spec = self._connection
        return (spec.login, spec.password or "") if spec.login else None

    def _headers(self) -> dict[str, str]:
        spec = self._connection
        token = {"Authorization": f"Bearer {spec.password}"} if spec.password and not spec.login else {}
        return {"Accept-Encoding": "identity", **token}  # sizes are those on the wire: no bombs

    def _refusal(self, path: str, answer: httpx.Response, body: bytes) -> RegistryError:
        status = answer.status_code
        words = _words(body)
        if status in _REFUSED:
            return self._error(f"{path} is refused ({status}{words}); check the connection's user or token")
        if answer.is_redirect:
            place = urlsplit(answer.headers.get("location", "")).netloc or "another path"
            return self._error(
                f"{path} is redirected ({status}, to {place}), which is not followed; write the address that "
                "answers itself into the connection"
            )
        if status == _MISSING and not words:
            return self._error(f"there is no {path} ({status}); is this the address of an MLflow server?")
        if status == _MISSING:
            return self._error(f"{path}: not found{words}; check the name in `uri:`")
        remedy = "try again later" if status >= _FAILED else "check `uri:`"
        return self._error(f"{path} failed with status {status}{words}; {remedy}")

    def _no_json(self, path: str, content: bytes) -> RegistryError:
        is_page = content.lstrip()[:1] == b"<"
        found = "a page of HTML" if is_page else "no JSON"
        return self._error(
            f"the answer to {path} is {found}; a login page or a proxy may have answered in MLflow's "
            "place: check "
            "the connection's host"
        )

    def _error(self, found: str) -> RegistryError:
        spec = self._connection
        return RegistryError(spec.redact(f"connection '{spec.conn_id}' (MLflow at {self.url}): {found}"))


def _base_url(connection: ConnectionSpec) -> str:
    """As Airflow's HTTP hook reads a connection: the host may hold schema and path."""
    host = (connection.host or "").rstrip("/")
    url = urlsplit(host if "://" in host else f"{connection.schema or 'http'}://{host}")
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise RegistryError(
            f"connection '{connection.conn_id}' is no address of an MLflow server; write its name as host, "
            "http "
            "or https as schema, and user and password, or a token as password, in their own fields"
        )
    port = "" if url.port or connection.port is None else f":{connection.port}"
    return f"{url.scheme}://{url.netloc}{port}{url.path}"


def _first(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size > _CHUNK:
            return


def _words(body: bytes) -> str:
    """What the server says of an error: MLflow's own message, '' for anything else."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    message = answer.get("message") if isinstance(answer, dict) else None
    if not isinstance(message, str) or not message:
        return ""
    return f": {masked(' '.join(message.split()))[:_MOST_SHOWN]}"  # before it is cut: it may quote a token
