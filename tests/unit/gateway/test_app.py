"""The gateway as a whole: what is answered to whom, and that something always is."""

from __future__ import annotations

from scoreline_client.testing import FakeScoreline
from scoreline_gateway.app import Gateway
from tests.support.asgi import call


async def test_what_is_not_there_is_said_in_the_form_of_its_face(app: Gateway) -> None:
    own = await call(app, "GET", "/v1/nothing")
    protocol = await call(app, "GET", "/v2/nothing")
    other = await call(app, "GET", "/nothing")
    assert [each.status for each in (own, protocol, other)] == [404, 404, 404]
    assert own.headers["content-type"] == "application/problem+json"
    assert own.json["code"] == "E_NOT_FOUND"
    assert set(protocol.json) == {"error", "code"}
    assert set(other.json) == {"error_code", "message", "code"}


async def test_a_wrong_method_is_answered_with_those_that_are_known(app: Gateway) -> None:
    reply = await call(app, "POST", "/version")
    assert reply.status == 405
    assert "GET" in reply.headers["allow"]


async def test_without_a_worker_the_ping_fails(app: Gateway, scoreline: FakeScoreline) -> None:
    with scoreline.without_workers():
        assert (await call(app, "GET", "/ping")).status == 404
