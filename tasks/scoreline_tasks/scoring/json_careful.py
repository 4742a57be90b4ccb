"""JSON that must be read with care: what orjson cannot read, rounds, or passes over in silence.

orjson is strict and fast, but it refuses a whole body for one number that is too large or one lone
surrogate, rounds whole numbers beyond 64 bits, and keeps the last of two equal keys. Python's `json`
reads all of that; here it costs the one record, and nothing but a count when all is well.
"""

from __future__ import annotations

import json
import re
from typing import Any

from scoreline_artifacts.validation import Unreadable
from scoreline_client.codes import Code
from scoreline_tasks.scoring.predict import RequestProblem

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_CONSTANT = re.compile(rb'"(?:[^"\\]++|\\.)*+"|(-?Infinity|NaN)', re.DOTALL)
_LONGEST_INTEGER = 400
_DIGITS = bytes(ord("0") if one in b"123456789" else one for one in range(256))
_LONG_RUN = b"0" * 20
"""So many digits may be a whole number beyond 64 bits."""


def needs_care(body: bytes, records: list[Any]) -> bool:
    """Whether `records`, as orjson read them, may not be all that the body says."""
    if _LONG_RUN in body.translate(_DIGITS):
        return True
    # Each key has a colon. Without colons in texts there are no more of them than keys that are left.
    if len(records) == 1:  # most requests: a microsecond here is a percent of what they cost
        if type(records[0]) is dict and body.count(b":") == len(records[0]):
            return False
    elif set(map(type, records)) == {dict} and body.count(b":") == sum(map(len, records)):
        return False
    return _STRING.sub(b"", body).count(b":") != _count_keys(records)


def _count_keys(value: Any) -> int:
    count, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            count += len(one)
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
    return count


def read_carefully(body: bytes) -> Any:
    """What a body says; a record with a key twice is an Unreadable.

    Raises:
        RequestProblem: E_JSON or E_ENCODING, with the place of the byte.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8: byte {body[error.start]:#04x} at {error.start}"
        raise RequestProblem(Code.ENCODING, message) from error
    try:
        return json.loads(
            text, parse_int=_integer, parse_constant=_refuse, object_pairs_hook=_object
        )
    except _Constant as error:
        found = next(one for one in _CONSTANT.finditer(body) if one[1] is not None)
        message = (
            f"the body is not JSON: {found[1].decode()} at byte {found.start()} is no JSON value"
        )
        raise RequestProblem(Code.JSON, message) from error
    except json.JSONDecodeError as error:
        place = len(text[: error.pos].encode())
        message = f"the body is not valid JSON at byte {place}: {error.msg}"
        raise RequestProblem(Code.JSON, message) from error
    except RecursionError as error:
        raise RequestProblem(Code.JSON, "the body is nested too deep") from error


class _Constant(ValueError):
    """Raised when a body holds NaN or an infinity."""


def _refuse(name: str) -> Any:
    raise _Constant(name)


def _integer(text: str) -> int:
    # Python takes quadratic time to read digits; these are enough to be too many.
    return int(text[:_LONGEST_INTEGER])


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    bad = next((one for one in found.values() if isinstance(one, Unreadable)), None)
    if bad is not None:
        return bad
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    return Unreadable(Code.DUPLICATE_KEY.value, f"the record has the key {twice!a} twice")
