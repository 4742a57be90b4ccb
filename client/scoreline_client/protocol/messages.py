"""Requests and answers as they travel between callers and workers: the wire format, version 1.

A request is one entry of a lane's stream, its fields as in `Request`. An answer is a JSON object on
one line, followed, where its `codec` is not `json`, by a newline and the codec's bytes. The same
framing is used for the bodies of requests in the `csv` codec. `docs/wire-format.md` describes it for
people who write a caller in another language.

To change the format: raise WIRE_VERSION, keep decoding what older callers send for as long as the
changelog promises, and add the old form to the tests as bytes.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from scoreline_client.codes import Code
from scoreline_client.errors import ScorelineError, SettingsError
from scoreline_client.protocol.names import PRODUCTION, split_reference

_T = TypeVar("_T")

WIRE_VERSION = 1
INLINE_ANSWER_BYTES = 65_536
"""A larger answer is not put on the caller's reply list, only a note that it is stored."""
DEFAULT_EXPIRES_MS = 60_000

GROUPED_FROM_BYTES = 1024
"""Bodies of so many bytes may hold so many records that their errors are grouped in the answer."""
MOST_FIELD_BYTES, MOST_OPTION_BYTES = 1024, 1 << 20
"""Bytes of all fields of an entry but its body and options, and bytes of its options."""

_ID = re.compile(rb"[0-9a-f]{32}")


class WireError(ScorelineError):
    """Raised when bytes do not follow the wire format; `code` says in which way."""

    def __init__(self, message: str, code: Code = Code.WIRE) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Operation(StrEnum):
    """What a request asks for."""

    SCORE = "score"
    """Predictions for the records of the body."""
    CHECK = "check"
    """A report on the records, without predictions: what their columns hold, and which would be rejected."""
    DESCRIBE = "describe"
    """The version that an alias names now, its input columns and its outputs; no body."""


class Codec(StrEnum):
    """How a body is encoded."""

    JSON = "json"
    """A JSON array of objects, column name to value."""
    ARROW = "arrow"
    """An Arrow IPC stream, a row for each record."""
    CSV = "csv"
    """A JSON line (see `options.CsvChunk`), then whole lines of a CSV file, byte for byte."""


class Status(StrEnum):
    """How a request ended."""

    OK = "ok"
    """Every record has a prediction or its own error."""
    ERROR = "error"
    """The request as a whole could not be scored."""


def new_id() -> str:
    """128 random bits: the id of a request, or of a client."""
    return secrets.token_hex(16)


def check_id(text: str) -> str:
    """An id that somebody has chosen.

    Raises:
        SettingsError: it is not 32 hexadecimal digits.
    """
    if not isinstance(text, str) or not _ID.fullmatch(text.encode()):
        raise SettingsError("job_id", text, "32 small hexadecimal digits")
    return text


@dataclass(frozen=True, slots=True)
class ModelRef:
    """`pima`, `pima@candidate` or `pima@3`: a model, and an alias or a version of it."""

    name: str
    alias: str | None = PRODUCTION
    version: int | None = None

    @classmethod
    @lru_cache(maxsize=1024)  # callers and workers read the same few references for every request
    def parse(cls, text: str) -> ModelRef:
        """Read a reference.

        Raises:
            WireError: E_UNKNOWN_MODEL; the text is not a reference.
        """
        try:
            return cls(*split_reference(text))
        except ValueError as error:
            raise WireError(str(error), Code.UNKNOWN_MODEL) from error

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}@{self.version}"
        return self.name if self.alias == PRODUCTION else f"{self.name}@{self.alias}"


# Neither Request nor Answer is frozen: Python takes four times as long to make a frozen object, which with so many
# fields is half of the time that decoding takes. No code changes one.
@dataclass(slots=True, kw_only=True)
class Request:
    """One request, as the fields of a stream entry."""

    id: str
    model: str
    body: bytes = b""
    operation: Operation = Operation.SCORE
    codec: Codec = Codec.JSON
    reply_to: str = ""
    """The id of the client whose reply list gets the answer; empty: stored only."""
    notify: str = ""
    """The id of the client whose reply list gets a note that the answer is stored; without `reply_to`."""
    expires_ms: int = DEFAULT_EXPIRES_MS
    """Milliseconds after it was queued, by the server's clock, from which it is not scored any more."""
    options: bytes = b""
    """Codecs json and arrow: `options.RequestOptions` as JSON; empty when all have their defaults."""
    job: str = ""
    """The bulk job that this is a chunk of: it is not scored once that job's lease is over."""
    by_output: bool = False
    """Codec arrow: a version with several outputs answers with columns for each of them."""
    apart: bool = False
    """Its records come from different callers: a version whose answers depend on the other records of a
    batch scores each of them alone."""
    callers: int = 1
    """How many callers share it: it counts as that many against the lane's limit."""
    trace: str = field(default="", compare=False)
    """W3C `traceparent` of its callers that are traced, with commas between."""
    grouped_errors: bool = field(default=False, compare=False)
    """The caller reads `more_errors` in an answer; `encode` says so wherever there may be that many."""

    def encode(self) -> list[bytes | str | int]:
        """The entry's fields and values, alternating, as XADD takes them."""
        fields: list[bytes | str | int] = [
            "wire", WIRE_VERSION,
            "id", self.id,
            "model", self.model,
            "operation", self.operation.value,
            "codec", self.codec.value,
            "reply_to", self.reply_to,
            "expires_ms", self.expires_ms,
            "body", self.body,
        ]  # fmt: skip
        if self.options:
            fields += ("options", self.options)
        if self.notify:
            fields += ("notify", self.notify)
        if self.job:
            fields += ("job", self.job)
        if self.apart:
            fields += ("apart", 1)
        if self.callers > 1:
            fields += ("callers", self.callers)
        if len(self.body) >= GROUPED_FROM_BYTES:
            fields += ("grouped_errors", 1)
        if self.by_output:
            fields += ("by_output", 1)
        if self.trace:
            fields += ("trace", self.trace)
        return fields

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes]) -> Request:
        """Read an entry's fields; all but wire, id, model and body may be left out.

        Raises:
            WireError: a field is missing or unusable; the message names it.
        """
        body, options = fields.get(b"body", b""), fields.get(b"options", b"")
        if sum(map(len, fields.values())) - len(body) - len(options) > MOST_FIELD_BYTES:
            raise WireError(
                f"the fields beside body and options have over {MOST_FIELD_BYTES} bytes"
            )
        if len(options) > MOST_OPTION_BYTES:
            raise WireError(
                f"the options have {len(options)} bytes; {MOST_OPTION_BYTES} are the most"
            )
        for name in ("wire", "model"):
            if name.encode() not in fields:
                raise WireError(f"missing field {name!r}")
        if fields[b"wire"] != b"1":
            wire = show(fields[b"wire"]).strip('"')
            raise WireError(f"unknown wire format {wire}; this release reads {WIRE_VERSION}")
        try:
            return cls(
                id=decode_id(fields),
                model=fields[b"model"].decode(),
                body=body,
                operation=_one_of(_OPERATIONS, fields, b"operation", b"score"),
                codec=_one_of(_CODECS, fields, b"codec", b"json"),
                reply_to=decode_client(fields, b"reply_to"),
                notify=decode_client(fields, b"notify"),
                expires_ms=_whole_number(fields, b"expires_ms", DEFAULT_EXPIRES_MS),
                options=options,
                job=decode_client(fields, b"job"),
                apart=_one_of(_FLAGS, fields, b"apart", b"0"),
                callers=_whole_number(fields, b"callers", 1),
                grouped_errors=_one_of(_FLAGS, fields, b"grouped_errors", b"0"),
                by_output=_one_of(_FLAGS, fields, b"by_output", b"0"),
            )
        except ValueError as error:
            raise WireError(f"a field is unusable: {error}") from error


def decode_id(fields: Mapping[bytes, bytes]) -> str:
    """The request's id, which is needed to answer even a request that is otherwise unusable.

    Raises:
        WireError: there is none, or it is not 32 hexadecimal digits.
    """
    raw = fields.get(b"id", b"")
    if not _ID.fullmatch(raw):
        raise WireError(f"id {show(raw)} is not 32 hexadecimal digits")
    return raw.decode()


def decode_client(fields: Mapping[bytes, bytes], name: bytes) -> str:
    """The id in the field `reply_to` or `notify`, whose reply list a worker writes to, or in `job`; or "".

    An id and not a key: callers must not choose the keys that workers write to.

    Raises:
        WireError: it is not 32 hexadecimal digits.
    """
    raw = fields.get(name, b"")
    if raw and not _ID.fullmatch(raw):
        raise WireError(f"{name.decode()} {show(raw)} is not 32 hexadecimal digits")
    return raw.decode()


def _whole_number(fields: Mapping[bytes, bytes], name: bytes, default: int) -> int:
    raw = fields.get(name)
    try:
        return default if raw is None else int(raw)
    except ValueError as error:
        raise WireError(f"{name.decode()} {show(raw or b'')} is not a whole number") from error


def _one_of(
    values: Mapping[bytes, _T], fields: Mapping[bytes, bytes], name: bytes, default: bytes
) -> _T:
    raw = fields.get(name, default)
    try:
        return values[raw]
    except KeyError:
        expected = ", ".join(map(bytes.decode, values))
        message = f"{name.decode()} {show(raw)} is not known; expected one of {expected}"
        raise WireError(message) from None


_OPERATIONS = {operation.value.encode(): operation for operation in Operation}
_FLAGS = {b"0": False, b"1": True}
_CODECS = {codec.value.encode(): codec for codec in Codec}


@dataclass(slots=True, kw_only=True)
class Answer:
    """One request's result. Lists run parallel to the request's records."""

    id: str
    status: Status = Status.OK
    model: str = ""
    version: int = 0
    codec: Codec = Codec.JSON
    records: int = 0
    error: dict[str, Any] | None = None
    """For status error: code, message and, where there is one, column."""
    classes: list[Any] | None = None
    outputs: list[dict[str, Any]] | None = None
    """Codec json, where each of several outputs has probabilities of its own: `name` and `classes` of each."""
    values: list[Any] = field(default_factory=list)
    probabilities: list[list[float] | None] | None = None
    """A list for each record; those of several outputs in order."""
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Errors of records by index ("0", "1", …): code, message, column, value."""
    more_errors: list[dict[str, Any]] = field(default_factory=list)
    """Further errors in groups, if `grouped_errors`: code, message, column, and `records` or `rows` and `lines`; `decode`
    makes `errors` and `problems` of them."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Codec csv and arrow: how many records were rejected, by code."""
    problems: list[dict[str, Any]] = field(default_factory=list)
    """Codec csv and arrow, if requested: the details of rejected rows, in order: row, line (csv), code,
    message, and column and value where there is one."""
    warnings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Codec json: warnings by the record's index: code, message, column, value."""
    warned: list[dict[str, Any]] = field(default_factory=list)
    """Codec csv and arrow: warnings by code and column: code, column, count, examples."""
    report: dict[str, Any] | None = None
    """For operation check: what each column holds; see `files.profile`."""
    description: dict[str, Any] | None = None
    """For operation describe: `columns` (list of name, type, nullable) and `outputs`."""
    timings: dict[str, float] = field(default_factory=dict)
    """queued_ms, scored_ms, batch_records."""
    body: bytes | memoryview = b""
    """Codec csv: the output lines. Codec arrow: an IPC stream of the outputs."""

    def encode(self) -> bytes:
        head = {name: value for name in _HEAD if (value := getattr(self, name)) or name in _ALWAYS}
        head["wire"] = WIRE_VERSION
        if self.codec is Codec.JSON:
            return orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
        return join_frame(head, self.body)

    @classmethod
    def decode(cls, data: bytes | bytearray) -> Answer:
        """Read an answer.

        Raises:
            WireError: the bytes are no answer of this wire format.
        """
        head, body = split_frame(data)
        if head.pop("wire", None) != WIRE_VERSION:
            raise WireError(f"an answer of another wire format than {WIRE_VERSION}")
        try:
            head["status"] = Status(head["status"])
            head["codec"] = Codec(head.get("codec", "json"))
            add_grouped_errors(head)
            # A newer worker may send fields that this client does not know.
            return cls(**{name: head[name] for name in head if name in _FIELDS}, body=body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise WireError(f"an answer is unusable: {error}") from error


def add_grouped_errors(head: dict[str, Any]) -> None:
    """Put the errors of `more_errors` where those of each record and row are."""
    for group in head.pop("more_errors", ()):
        same = {name: group[name] for name in ("code", "message", "column") if name in group}
        for record in group.get("records", ()):
            head.setdefault("errors", {})[str(record)] = same
        rows = group.get("rows", ())
        for row, line in zip(rows, group.get("lines") or [None] * len(rows), strict=True):
            position = {"row": row} if line is None else {"row": row, "line": line}
            head.setdefault("problems", []).append(position | same)
    if "problems" in head:
        head["problems"].sort(key=lambda problem: problem["row"])


_ALWAYS = frozenset({"id", "status"})
_HEAD = tuple(name for name in Answer.__dataclass_fields__ if name != "body")
_FIELDS = frozenset(_HEAD)


@dataclass(frozen=True, slots=True)
class StoredNote:
    """A note on the reply list that the answer is stored under its key, being over INLINE_ANSWER_BYTES."""

    id: str

    def encode(self) -> bytes:
        return orjson.dumps({"wire": WIRE_VERSION, "id": self.id, "stored": True})


def decode_reply(data: bytes) -> Answer | StoredNote:
    """Read an item of a reply list.

    Raises:
        WireError: the bytes are neither an answer nor a note.
    """
    if data.endswith(b'"stored":true}') and len(data) < 120:
        name = split_frame(data)[0].get("id")
        if not isinstance(name, str):
            raise WireError("a note on an answer names no request")
        return StoredNote(name)
    return Answer.decode(data)


def join_frame(head: Mapping[str, Any], body: bytes | memoryview) -> bytes:
    """A JSON line, a newline, and bytes."""
    return b"\n".join((orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY), body))


def split_frame(data: bytes | bytearray) -> tuple[dict[str, Any], memoryview]:
    """The inverse of `join_frame`; data without a newline has an empty body.

    Raises:
        WireError: the first line is no JSON object.
    """
    end = data.find(b"\n")
    if end < 0:
        end = len(data)
    view = memoryview(data)
    try:
        head = orjson.loads(view[:end])
    except orjson.JSONDecodeError as error:
        raise WireError(f"the first line is not JSON: {error}: {show(data)}", Code.JSON) from error
    if not isinstance(head, dict):
        raise WireError(f"the first line is not a JSON object: {show(data)}")
    return head, view[end + 1 :]


def show(data: bytes | bytearray) -> str:
    """Bytes of somebody else as text, in the quotes and escapes of JSON, for callers in any language."""
    return json.dumps(bytes(data[:80]).decode(errors="backslashreplace"), ensure_ascii=False)
