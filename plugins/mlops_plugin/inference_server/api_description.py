"""The OpenAPI description of the routes, with `infer`, which the app answers without FastAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mlops_plugin.inference_server.inference_requests import HEADER_LENGTH, InferRequest

_REQUEST = "InferRequest"
_SCHEMAS = "#/components/schemas/"
_REFUSALS = {
    "400": "The request does not fit the protocol or the model.",
    "401": "There is no token, or it is invalid, expired or revoked.",
    "403": "The role may not run models, or not trigger the model's DAG.",
    "404": "There is no such model or version, or the caller may not read the model's DAG.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "422": "No row of the request has a prediction; `error` has the reasons.",
    "429": "Too many requests wait already; `Retry-After` says when to ask again.",
    "503": "The model, the event store, the configuration or Airflow's auth manager is not available.",
}


def describe_api(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    request = InferRequest.model_json_schema(ref_template=_SCHEMAS + "{model}")
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    components = document.setdefault("components", {})
    parts = request.pop("$defs")
    components["schemas"] = {**components.get("schemas", {}), **parts, _REQUEST: request, "Refusal": error}
    components["securitySchemes"] = {"airflow": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        document["paths"][f"{model}/infer"] = {"post": _infer(document["paths"][model]["get"])}
    for path, methods in document["paths"].items():
        if not path.startswith("/v2/models/"):
            continue
        for operation in methods.values():
            operation["security"] = [{"airflow": []}]
            operation["responses"] |= {status: _refusal(text) for status, text in _REFUSALS.items()}
    return document


def _infer(metadata: dict[str, Any]) -> dict[str, Any]:
    """`infer` of a model, in the same place as its metadata; no route of FastAPI's."""
    answer = {"description": "The outputs.", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "summary": "Infer",
        "description": "Predict the rows of the request.",
        "operationId": metadata["operationId"].replace("metadata", "infer"),
        "parameters": [*metadata["parameters"], _header_length()],
        "requestBody": _body(),
        "responses": {"200": answer},
    }


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Refusal"}}}}


def _body() -> dict[str, Any]:
    binary = {"type": "string", "format": "binary", "description": "JSON, and binary data behind it"}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": f"{_SCHEMAS}{_REQUEST}"}},
            "application/octet-stream": {"schema": binary},
        },
    }


def _header_length() -> dict[str, Any]:
    return {
        "name": HEADER_LENGTH,
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "The size of the JSON part if binary data follow it",
    }
