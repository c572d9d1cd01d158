"""Asks a server with `tritonclient` and prints what it heard as JSON: a program, since it brings gevent."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton

HEADERS = {"Authorization": "Bearer ada"}
ROWS = np.array([[1.5, 0.0, 3.25], [-2.0, 0.5, 1.0]])


def ask(address: str, model: str) -> dict[str, Any]:
    """The answers by form of the request, and what the server says of itself and of the model."""
    client = triton.InferenceServerClient(address)
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, headers=HEADERS),
        "metadata": client.get_model_metadata(model, headers=HEADERS),
    }
    for form, is_binary in (("json", False), ("binary", True)):
        matrix = triton.InferInput("features", [*ROWS.shape], "FP64")
        matrix.set_data_from_numpy(ROWS, binary_data=is_binary)
        columns = [triton.InferInput(name, [len(ROWS)], "FP64") for name in "abc"]
        for place, column in enumerate(columns):
            column.set_data_from_numpy(np.ascontiguousarray(ROWS[:, place]), binary_data=is_binary)
        wanted = [
            triton.InferRequestedOutput(name, binary_data=is_binary)
            for name in ("prediction", "probability_stays")
        ]
        for inputs, name in (([matrix], "matrix"), (columns, "columns")):
            answer = client.infer(model, inputs, outputs=wanted, request_id=form, headers=HEADERS)
            assert answer.get_response()["id"] == form
            labels = answer.as_numpy("prediction")
            found[f"{form} {name}"] = {
                "prediction": [one.decode() if isinstance(one, bytes) else str(one) for one in labels],
                "probability_stays": answer.as_numpy("probability_stays").tolist(),
            }
    text = triton.InferInput("a", [1], "BYTES")
    text.set_data_from_numpy(np.array(["Zoë"], dtype=object), binary_data=True)
    try:
        client.infer(model, [text], headers=HEADERS)
    except triton.InferenceServerException as error:
        found["refusal"] = [error.status(), error.message()]
    client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(ask(*sys.argv[1:])))
