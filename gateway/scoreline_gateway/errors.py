"""Errors as HTTP tells them: a status for each error, and the body in the form that the callers of a path expect.

The client's errors and the gateway's own become one `HttpProblem`, which each face writes in its own form:
`/v1` as problem+json (RFC 9457), `/v2` as the Open Inference Protocol has it, everything else as MLflow does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from scoreline_client.codes import Code
from scoreline_client.errors import (
    FileRefused,
    JobLost,
    MissingDependency,
    NoAnswer,
    NotReplicated,
    PayloadTooLarge,
    QueueFull,
    RecordRejected,
    RequestRefused,
    ScorelineError,
    ServerTooOld,
    ServerUnreachable,
    SettingsError,
    UnknownModel,
)
from scoreline_client.protocol.messages import WireError


class HttpCode(StrEnum):
    """What went wrong between a caller and the gateway, beside `scoreline_client.codes.Code`."""

    UNAUTHORIZED = "E_UNAUTHORIZED"
    """There is no token, or one that is not known."""
    FORBIDDEN = "E_FORBIDDEN"
    """The token does not give this right, or not for this model; or the caller may not reach the gateway like this."""
    NOT_FOUND = "E_NOT_FOUND"
    """There is nothing under this path."""
    METHOD = "E_METHOD"
    """The path does not know this method."""
    MEDIA_TYPE = "E_MEDIA_TYPE"
    """The body's content type or encoding is not one that is read here."""
    BAD_REQUEST = "E_BAD_REQUEST"
    """A header, a query or a body is not in the form that the path expects."""
    NO_SUCH_PART = "E_NO_SUCH_PART"
    """The header Range asks for a part of a file that is not there."""
    SLOW_BODY = "E_SLOW_BODY"
    """The body did not arrive in time."""
    BUSY = "E_BUSY"
    """The gateway answers as many requests as it may at a time."""
    KEY_REUSED = "E_KEY_REUSED"
    """This Idempotency-Key came with another request before."""
    CONFLICT = "E_CONFLICT"
    """The state of what is asked for does not permit it."""
    QUEUE_FULL = "E_QUEUE_FULL"
    """The queue takes no more requests now."""
    UNREACHABLE = "E_UNREACHABLE"
    """The queue cannot be reached."""
    NO_ANSWER = "E_NO_ANSWER"
    """No worker answered in time."""
    JOB_LOST = "E_JOB_LOST"
    """Nothing is known (any more) of this job."""


class HttpRefused(ScorelineError):
    """Raised when the gateway itself refuses a request, before it reaches the queue."""

    def __init__(
        self,
        status: int,
        code: HttpCode | Code,
        message: str,
        *,
        column: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = str(code)
        self.column = column
        self.headers = dict(headers or {})


class CallerGone(Exception):
    """Raised when the caller has closed the connection: nobody is there to be answered."""


@dataclass(frozen=True, kw_only=True)
class HttpProblem:
    """An error as callers are told of it, whatever the form."""

    status: int
    code: str
    message: str
    column: str | None = None
    value: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()
    """Of several records: `record`, `code`, `column`, `message` of each."""


_BY_CODE: dict[str, int] = {
    Code.NOT_LOADED: 503,
    Code.CANCELLED: 409,
    Code.EXPIRED: 410,
    Code.INTERNAL: 500,
    Code.CRASHED: 500,
    Code.PREDICT: 500,
    Code.MODEL_OUTPUT: 500,
    Code.DISK_FULL: 507,
    Code.TOO_LARGE: 413,
}
"""Status of requests that were refused for these reasons; 400 for all others, 422 for files."""
_BY_STATUS = {
    404: HttpCode.NOT_FOUND,
    405: HttpCode.METHOD,
    415: HttpCode.MEDIA_TYPE,
}


def problem_of(error: Exception, *, rejected_status: int = 400) -> HttpProblem:
    """The problem that callers are told of; `rejected_status` is that of records which cannot be scored."""
    message = str(error)
    match error:
        case HttpRefused():
            return HttpProblem(
                status=error.status,
                code=error.code,
                message=message,
                column=error.column,
                headers=error.headers,
            )
        case RecordRejected():
            # A pipeline that fails for one record is an error of the record, and not of the gateway.
            is_of_pipeline = error.code in (Code.PREDICT, Code.MODEL_OUTPUT)
            status = (
                rejected_status if is_of_pipeline else _BY_CODE.get(error.code, rejected_status)
            )
            return HttpProblem(
                status=status,
                code=error.code,
                message=message,
                column=error.column,
                value=error.value,
            )
        case UnknownModel():
            return HttpProblem(status=404, code=error.code, message=message)
        case PayloadTooLarge():
            return HttpProblem(status=413, code=error.code, message=message)
        case RequestRefused() | FileRefused():
            status = _BY_CODE.get(error.code, 422 if isinstance(error, FileRefused) else 400)
            return HttpProblem(
                status=status, code=error.code, message=error.message, column=error.column
            )
        case QueueFull():
            wait = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
            return HttpProblem(status=503, code=HttpCode.QUEUE_FULL, message=message, headers=wait)
        case ServerUnreachable() | ServerTooOld() | NotReplicated():
            if not isinstance(error, NotReplicated):
                # The address of the server is the operator's business.
                message = "the queue cannot be reached; the gateway's log says why"
            wait = {"Retry-After": "1"}
            return HttpProblem(status=503, code=HttpCode.UNREACHABLE, message=message, headers=wait)
        case NoAnswer():
            return HttpProblem(status=504, code=HttpCode.NO_ANSWER, message=message)
        case SettingsError():
            return HttpProblem(status=400, code=HttpCode.BAD_REQUEST, message=message)
        case MissingDependency():
            return HttpProblem(status=501, code=HttpCode.MEDIA_TYPE, message=message)
        case JobLost():
            return HttpProblem(status=404, code=HttpCode.JOB_LOST, message=message)
        case WireError():
            return HttpProblem(status=400, code=Code.WIRE, message=message)
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, HttpCode.BAD_REQUEST)
            headers = dict(error.headers or {})
            return HttpProblem(
                status=error.status_code, code=code, message=error.detail, headers=headers
            )
    message = "the gateway failed in a way that it should not have; its log says more"
    return HttpProblem(status=500, code=Code.INTERNAL, message=message)


def error_response(path: str, error: Exception) -> Response:
    """The answer to a request that failed, in the form that callers of its path expect."""
    if path == "/v1" or path.startswith("/v1/"):
        return problem_response(problem_of(error, rejected_status=422))
    problem = problem_of(error)
    if path == "/v2" or path.startswith("/v2/"):
        body = {"error": problem.message, "code": problem.code}
        if problem.column is not None:
            body["column"] = problem.column
        return Response(
            orjson.dumps(body), problem.status, problem.headers, media_type="application/json"
        )
    # MLflow's names of errors are those of its own product; a client shows them and acts by the status.
    name = "BAD_REQUEST" if problem.status == 400 else HTTPStatus(problem.status).name
    body = {"error_code": name, "message": problem.message, "code": problem.code}
    return Response(
        orjson.dumps(body), problem.status, problem.headers, media_type="application/json"
    )


def problem_response(problem: HttpProblem) -> Response:
    """A problem as problem+json (RFC 9457)."""
    body: dict[str, Any] = {
        "type": "urn:scoreline:" + problem.code,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.message,
        "code": problem.code,
    }
    body |= {
        name: value
        for name in ("column", "value", "errors")
        if (value := getattr(problem, name)) not in (None, ())
    }
    return Response(
        orjson.dumps(body), problem.status, problem.headers, media_type="application/problem+json"
    )
