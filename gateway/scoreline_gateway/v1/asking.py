"""What requests of /v1 say beside their model: records, options in the query, `Prefer`, `Idempotency-Key`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request

from scoreline_client.codes import Code
from scoreline_client.errors import EmptyRequest, SettingsError
from scoreline_client.options import (
    BulkOptions,
    Flag,
    RequestOptions,
    ValueOptions,
    expected_of,
    given_as_text,
    type_hints,
)
from scoreline_client.protocol.json_records import check_model
from scoreline_gateway.access import header, principal_of
from scoreline_gateway.body import content_type, hold_json, read_body
from scoreline_gateway.errors import HttpCode, HttpRefused

_Options = TypeVar("_Options", RequestOptions, BulkOptions)

VALUE_OPTIONS = tuple(ValueOptions.__dataclass_fields__)
"""The options that a query of `:predict` and of jobs may have."""
FILE_OPTIONS = tuple(
    name for name in BulkOptions.__dataclass_fields__ if name not in ("resume", "restart")
)
"""The options that a query of a file may have; formats are those of the body."""
_LISTS = ("keep", "drop", "outputs")
PACKED = {"gzip": ".gz", "zstd": ".zst"}
"""How the result of a file may be packed, and how its name ends then."""
LONGEST_KEY = 255
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~]+")


def model_of(request: Request) -> str:
    """The reference of the path: a model, or an alias or a version of it.

    Raises:
        UnknownModel: it is no reference.
    """
    return check_model(request.path_params["model"])


@dataclass(frozen=True, slots=True)
class Preference:
    """The header `Prefer` (RFC 7240), as far as it is known here."""

    is_async: bool = False
    wait_s: float = 0.0
    """How long the caller would wait, and not longer than any caller may."""

    @property
    def applied(self) -> dict[str, str]:
        """The header that says which preferences were followed."""
        names = ["respond-async"] if self.is_async else []
        if self.wait_s:
            names.append(f"wait={self.wait_s:g}")
        return {"Preference-Applied": ", ".join(names)} if names else {}


NO_PREFERENCE = Preference()


def preference_of(request: Request) -> Preference:
    """The preferences of the caller; unknown ones are ignored, as the RFC has it."""
    if header(request.scope, b"prefer") is None:
        return NO_PREFERENCE
    is_async, wait_s = False, 0.0
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "respond-async":
            is_async = True
        elif name.strip().lower() == "wait" and re.fullmatch("[0-9]{1,9}", value.strip()):
            wait_s = min(float(value), request.app.settings.gateway_timeout_s)
    return Preference(is_async, wait_s)


def idempotency_key(request: Request) -> str | None:
    """The header `Idempotency-Key`: a quoted string as in RFC 9651, or the same without quotes.

    Raises:
        HttpRefused: it is neither.
    """
    if header(request.scope, b"idempotency-key") is None:
        return None
    values = request.headers.getlist("idempotency-key")
    text = values[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    is_usable = len(values) == 1 and (quoted or _BARE.fullmatch(text))
    if not is_usable or not 0 < len(key) <= LONGEST_KEY:
        message = (
            f"Idempotency-Key must be one text in quotes, of 1 to {LONGEST_KEY} ASCII characters"
        )
        raise HttpRefused(400, HttpCode.BAD_REQUEST, message)
    return key


def job_id_of(request: Request, key: str) -> str:
    """The id of the job that a key of this caller stands for: the queue answers an id once."""
    return hashlib.sha256(f"{principal_of(request).name}\0{key}".encode()).hexdigest()[:32]


def seconds_of(request: Request, name: str, default: float, most: float) -> float:
    """A number of seconds in the query; more than `most` is `most`.

    Raises:
        HttpRefused: it is no positive number.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) == 0:
        message = f"{name} in the query is {text[:40]!r}; expected seconds, such as 2.5"
        raise HttpRefused(400, HttpCode.BAD_REQUEST, message)
    return min(float(text), most)


def options_of(
    query: QueryParams, kind: type[_Options], names: Collection[str], others: Collection[str] = ()
) -> _Options:
    """The options in the query; a list has its name several times, and so has a mapping, as `old=new`.

    Raises:
        HttpRefused: an option is not known, its value is not permitted, or two of them do not go together.
    """
    hints = type_hints(kind)
    values: dict[str, Any] = {}
    for name in query:
        if name in others:
            continue
        if name not in names:
            expected = ", ".join(sorted((*names, *others)))
            message = f"the query has {name[:40]!r}, which is none of: {expected}"
            raise HttpRefused(400, HttpCode.BAD_REQUEST, message)
        texts = query.getlist(name)
        try:
            if name in _LISTS:
                values[name] = () if texts == [""] else tuple(texts)
            else:
                value = given_as_text(name, texts)
                is_text = isinstance(value, str)
                values[name] = (
                    msgspec.convert(value, hints[name], strict=False) if is_text else value
                )
        except msgspec.ValidationError:
            raise _not_permitted(name, texts[-1], expected_of(hints[name]) or "text") from None
        except SettingsError as error:
            raise _not_permitted(name, error.value, error.expected) from None
    try:
        return kind(**values)
    except SettingsError as error:
        if error.excluded:
            names = " and ".join(error.excluded)
            message = f"{names} in the query exclude each other: give one of them"
            raise HttpRefused(400, HttpCode.BAD_REQUEST, message) from None
        raise _not_permitted(error.name, error.value, error.expected) from None


def in_query(text: str) -> str:
    """A message of the client with the query's parameters where it speaks of the command line's flags."""

    def parameters(run: re.Match[str]) -> str:
        names = []
        for flag, value in _FLAG.findall(run[0]):
            name = _OF_FLAGS[flag]
            if type_hints(BulkOptions)[name].__origin__ is bool:
                value = "true"
            value = "tab" if value == r"'\t'" else quote(value.strip("'"), safe="=,")
            names.append(name + (f"={value}" if value else ""))
        return f"`?{'&'.join(names)}`"

    return _FLAGS.sub(parameters, text).replace(quote("…"), "…")


def _flag(name: str) -> str:
    """The command line's flag of an option of files."""
    extras = getattr(type_hints(BulkOptions)[name], "__metadata__", ())
    own = next((extra.name for extra in extras if isinstance(extra, Flag)), None)
    return own or f"--{name.replace('_', '-')}"


_OF_FLAGS = {_flag(name): name for name in FILE_OPTIONS}
_FLAG = re.compile(
    rf"({'|'.join(_OF_FLAGS)})(?![\w-])(?: (?!--)('[^']*'|[^\s)]*[^\s),;:.?]|[,;:.]))?"
)
_FLAGS = re.compile(rf"{_FLAG.pattern}(?: {_FLAG.pattern})*")


def _not_permitted(name: str, value: object, expected: str) -> HttpRefused:
    message = f"{name} in the query is {str(value)[:80]!r}; expected {expected}"
    return HttpRefused(400, HttpCode.BAD_REQUEST, message)


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a body, as JSON."""

    body: bytes
    """Of one record an object, of several an array."""
    count: int
    is_single: bool

    @property
    def as_array(self) -> bytes:
        """As workers take them."""
        return b"[" + self.body + b"]" if self.is_single else self.body


async def read_records(request: Request) -> Records:
    """The body: an object is one record, an array is several; workers check the values.

    Raises:
        HttpRefused: it is not JSON, or neither of these.
        EmptyRequest: the array is empty.
        PayloadTooLarge, CallerGone: as for `read_body` and `hold_json`.
    """
    kind, parameters = content_type(request)
    is_utf8 = parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8")
    if kind != "application/json" or not is_utf8:
        message = "the body must be JSON in UTF-8, with the header `Content-Type: application/json`"
        raise HttpRefused(415, HttpCode.MEDIA_TYPE, message, headers={"Accept": "application/json"})
    body = await read_body(request, request.app.settings.max_request_bytes)
    hold_json(request, body)
    is_array = body[:64].lstrip().startswith(b"[")
    try:
        # One record shares a request with those of others: its JSON may be nested as deeply as in that array.
        parsed = orjson.loads(body if is_array else b"[" + body + b"]")
    except orjson.JSONDecodeError as error:
        raise HttpRefused(400, Code.JSON, f"the body is not valid JSON: {error}") from None
    if not is_array and not (len(parsed) == 1 and isinstance(parsed[0], dict)):
        message = "the body must be one JSON object, a record, or an array of them"
        raise HttpRefused(400, Code.TYPE, message)
    if not parsed:
        raise EmptyRequest(Code.EMPTY_REQUEST, "there are no records to score; give at least one")
    return Records(body, len(parsed), not is_array)
