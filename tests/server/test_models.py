"""``GET /v1/models``: what is loaded, in OpenAI's shape."""

from __future__ import annotations

import time

from running_server import HTTP, Server, StartServer

FAKE_MODEL = {
    "object": "model",
    "owned_by": "chatterbox-server",
    "sample_rate": 24_000,
    "languages": ["en", "fr", "de"],
    "tags": ["[beep]"],
    "voices": ["tone"],
    "can_clone": True,
    "can_convert": True,
    "watermark": False,
}


def test_loaded_models_are_listed(server: StartServer) -> None:
    one = server("--engine", "fake", "--load-turbo", "--load-nano")
    listed = HTTP.get(f"{one.url}/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["turbo", "nano", "fake"]
    for model in listed["data"]:
        assert abs(model["created"] - time.time()) < 3600
        rest = {name: value for name, value in model.items() if name not in ("id", "created")}
        assert rest == FAKE_MODEL
        assert HTTP.get(f"{one.url}/v1/models/{model['id']}").json() == model


def test_lite_is_described(lite: Server) -> None:
    model = HTTP.get(f"{lite.url}/v1/models/lite").json()
    assert (model["languages"], model["voices"], model["tags"]) == (["en"], ["heart"], [])
    assert [model[name] for name in ("can_clone", "can_convert", "watermark")] == [False] * 3


def test_errors_have_openai_shape(server: StartServer) -> None:
    one = server("--engine", "fake", "--api-key", "secret")
    key = {"Authorization": "Bearer secret"}
    unknown = HTTP.get(f"{one.url}/v1/models/gpt-5", headers=key)
    assert unknown.status_code == 404
    error = unknown.json()["error"]
    assert set(unknown.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert "fake" in error["message"]
    for answer, status, code in (
        (HTTP.get(f"{one.url}/v1/models"), 401, "invalid_api_key"),
        (HTTP.get(f"{one.url}/v1/readyz", headers=key), 404, "not_found"),
        (HTTP.post(f"{one.url}/v1/models", headers=key), 405, "method_not_allowed"),
    ):
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["param"] is None
        assert answer.headers["x-request-id"]


def test_nothing_is_listed_before_it_is_loaded(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-load-seconds", "2", wait=False)
    one.wait_listening()
    answer = HTTP.get(f"{one.url}/v1/models")
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"
    assert int(answer.headers["retry-after"]) >= 1
    one.wait_ready()
