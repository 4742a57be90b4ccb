"""Tensors of the Open Inference Protocol: inputs to columns of values, and columns of answers to outputs.

An input is a column, of shape [N] or [N, 1]; or, alone, a matrix [N, columns] in the order of the model's columns.
Its values stand in the JSON, nested or flat; or, with the binary tensor data extension, behind the JSON, little-endian.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from scoreline_client.codes import Code
from scoreline_gateway.errors import HttpCode, HttpRefused

_FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""How values of a datatype stand in binary data, for `struct`."""
DATATYPES = (*_FORMATS, "BYTES")
MOST_DEPTH = 32
"""Lists in lists, in an input's data."""


class Tensor(msgspec.Struct, frozen=True):
    """An input, or an output."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]
    """Flat, in row-major order."""
    parameters: Mapping[str, Any]

    @property
    def is_column(self) -> bool:
        """Whether it has one value for each record."""
        return len(self.shape) == 1 or (len(self.shape) == 2 and self.shape[1] == 1)


class _ContentType(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters that leave values as they stand in the JSON."""

    content_type: Literal["pd", "np", "str", "datetime"] = "pd"


_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Numbers beyond it are floats to `read_inputs`, as to most readers of JSON."""


class _OneValue(msgspec.Struct, forbid_unknown_fields=True):
    """An input of one value."""

    name: str
    datatype: Literal[tuple(kind for kind in DATATYPES if kind != "BOOL")]  # type: ignore[valid-type]
    shape: Annotated[list[Literal[1]], Meta(min_length=1, max_length=2)]
    data: Annotated[list[_Int64 | float | str | bool | None], Meta(min_length=1, max_length=1)]
    parameters: _ContentType | None = None


class OneRecord(msgspec.Struct, forbid_unknown_fields=True):
    """A request for one record, with an input for each column, and nothing else that changes what is asked."""

    inputs: Annotated[list[_OneValue], Meta(min_length=2)]
    parameters: _ContentType | None = None
    id: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """The values by column."""
        return {column.name: column.data[0] for column in self.inputs}


_one_record_decoder = msgspec.json.Decoder(OneRecord)


def read_one_record(text: bytes) -> OneRecord | None:
    """A request in its plainest form, decoded and checked in a quarter of the time; None for any other form."""
    try:
        request = _one_record_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    names = {column.name for column in request.inputs}
    return request if len(names) == len(request.inputs) else None


def bad(
    message: str, *, column: str | None = None, code: Code | HttpCode = Code.WIRE
) -> HttpRefused:
    """What is raised for a request that does not follow the protocol."""
    return HttpRefused(400, code, message, column=column)


def read_inputs(inputs: Any, binary: memoryview) -> list[Tensor]:
    """The inputs of a request; `binary` is what follows its JSON.

    Raises:
        HttpRefused: an input is not what the protocol says; the message names it.
    """
    if not isinstance(inputs, list) or not all(isinstance(fields, dict) for fields in inputs):
        raise bad("`inputs` must be a list of objects")
    tensors = []
    for fields in inputs:
        tensor, size = read_input(fields, binary)
        binary = binary[size:]
        tensors.append(tensor)
    if len(binary):
        raise bad(f"{len(binary)} bytes of binary data belong to no input")
    return tensors


def read_input(fields: dict[str, Any], binary: memoryview) -> tuple[Tensor, int]:
    """An input, and how many bytes of the binary data are its own."""
    name, datatype, shape = fields.get("name"), fields.get("datatype"), fields.get("shape")
    if not isinstance(name, str):
        raise bad("an input must have a `name`, which is a text")
    if datatype not in DATATYPES:
        raise bad(
            f"input {name[:80]!r}: `datatype` must be one of {', '.join(DATATYPES)}", column=name
        )
    # Checked by built-in functions: a request for one record has as many inputs as the model has columns.
    if (
        type(shape) is not list
        or not 1 <= len(shape) <= 2
        or type(shape[0]) is not int
        or type(shape[-1]) is not int
        or min(shape) < 0
    ):
        raise bad(f"input {name[:80]!r}: `shape` must be [N] or [N, M]", column=name)
    parameters = fields.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad(f"input {name[:80]!r}: `parameters` must be an object", column=name)
    count = math.prod(shape)
    size = parameters.get("binary_data_size")
    if size is None:
        data = fields.get("data")
        if type(data) is not list:
            raise bad(f"input {name[:80]!r}: `data` must be a list", column=name)
        if list in map(type, data):
            data = list(flat_values(data, name))
        if datatype == "BOOL":
            data = [bool(value) if value in (0, 1) else value for value in data]
    elif type(size) is not int or not 0 <= size <= len(binary):
        raise bad(f"input {name[:80]!r}: there are no {size} bytes of binary data", column=name)
    else:
        data = unpack(datatype, binary[:size], name)
    if len(data) != count:
        raise bad(
            f"input {name[:80]!r}: shape {shape} needs {count} values, not {len(data)}", column=name
        )
    data = convert_values(data, datatype, parameters.get("content_type"), name)
    return Tensor(name, datatype, shape, data, parameters), size or 0


def flat_values(data: list[Any], name: str) -> Iterator[Any]:
    """The values of nested lists."""
    stack = [iter(data)]
    while stack:
        for value in stack[-1]:
            if isinstance(value, list):
                if len(stack) >= MOST_DEPTH:
                    raise bad(f"input {name[:80]!r}: `data` is nested too deeply", column=name)
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()


def unpack(datatype: str, data: memoryview, name: str) -> list[Any]:
    """The values of binary data."""
    if datatype != "BYTES":
        size = struct.calcsize(_FORMATS[datatype])
        if len(data) % size:
            message = (
                f"input {name[:80]!r}: {len(data)} bytes are no whole number of {datatype} values"
            )
            raise bad(message, column=name)
        return list(struct.unpack(f"<{len(data) // size}{_FORMATS[datatype]}", data))
    texts, position = [], 0
    while position < len(data):
        start = position + 4
        length = int.from_bytes(data[position:start], "little")
        position = start + length
        if position > len(data):
            raise bad(f"input {name[:80]!r}: the last text ends too early", column=name)
        try:
            texts.append(str(data[start:position], "utf-8"))
        except UnicodeDecodeError:
            message = f"input {name[:80]!r}: value {len(texts)} is no valid UTF-8"
            raise bad(message, column=name, code=Code.ENCODING) from None
    return texts


def convert_values(data: list[Any], datatype: str, content_type: Any, name: str) -> list[Any]:
    """Values as their content type says."""
    if datatype.startswith("FP"):
        # In columns of a frame, NaN is how a missing number is written.
        return [None if value != value else value for value in data]
    try:
        match content_type:
            case "base64":
                return [value and base64.b64decode(value, validate=True).decode() for value in data]
            case "pd_json":
                return [orjson.loads(value) if isinstance(value, str) else value for value in data]
    except (binascii.Error, UnicodeDecodeError, TypeError, ValueError) as error:
        message = f"input {name[:80]!r}: a value is not what the content type {content_type} says: {error}"
        raise bad(message, column=name) from None
    return data


def records_of(tensors: Sequence[Tensor], columns: Sequence[str] | None) -> list[dict[str, Any]]:
    """Records, out of an input for each column; or of a matrix, whose columns are `columns`.

    Raises:
        HttpRefused: inputs have different lengths, the same name, or a matrix does not stand alone.
    """
    if columns is not None:
        (tensor,) = tensors
        width = tensor.shape[1] if len(tensor.shape) == 2 else 1
        if width != len(columns):
            message = (
                f"input {tensor.name[:80]!r} has {width} columns, and the model has {len(columns)}: "
                f"{', '.join(columns[:20])}{', …' if len(columns) > 20 else ''}"
            )
            raise bad(message)
        starts = range(0, len(tensor.data), width or 1)
        rows = (tensor.data[start : start + width] for start in starts)
        return [dict(zip(columns, row, strict=True)) for row in rows]
    names = [tensor.name for tensor in tensors]
    count = tensors[0].shape[0] if tensors else 0
    for tensor in tensors:
        if not tensor.is_column:
            message = f"input {tensor.name[:80]!r} has shape {tensor.shape}; expected [N] or [N, 1] beside other inputs"
            raise bad(message, column=tensor.name)
        if tensor.shape[0] != count:
            message = (
                f"input {tensor.name[:80]!r} has {tensor.shape[0]} values, and "
                f"{tensors[0].name[:80]!r} has {count}"
            )
            raise bad(message, column=tensor.name)
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        message = f"input {name[:80]!r} is there {times} times"
        raise bad(message, column=name, code=Code.DUPLICATE_COLUMN)
    data = [tensor.data for tensor in tensors]
    return [dict(zip(names, row, strict=True)) for row in zip(*data, strict=True)]


def tensor_of(name: str, values: Sequence[Any]) -> Tensor:
    """An output of values, or of rows of them; its datatype is found out by them.

    A number or text may be None where its record was rejected; whole numbers become FP64 beside one.
    """
    shape = [len(values)]
    flat = list(values)
    kinds = set(map(type, flat))
    if kinds == {float}:
        return Tensor(name, "FP64", shape, flat, {})
    if kinds == {list} and len(set(map(len, flat))) == 1:
        shape.append(len(flat[0]))
        flat = [value for row in flat for value in row]
        kinds = set(map(type, flat))
    if kinds == {bool}:
        return Tensor(name, "BOOL", shape, flat, {})
    if kinds == {int} and min(flat) >= -(2**63) and max(flat) < 2**63:
        return Tensor(name, "INT64", shape, flat, {})
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        numbers = [None if value is None else float(value) for value in flat]
        return Tensor(name, "FP64", shape, numbers, {})
    if not kinds <= {str, type(None)}:
        texts = [orjson.dumps(value).decode() for value in flat]
        return Tensor(name, "BYTES", shape, texts, {"content_type": "pd_json"})
    return Tensor(name, "BYTES", shape, flat, {"content_type": "str"})


def packed(tensor: Tensor) -> bytes:
    """The values of an output as binary data; None becomes NaN, or an empty text."""
    if tensor.datatype == "BYTES":
        texts = [(text or "").encode("utf-8", "replace") for text in tensor.data]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    values = [math.nan if value is None else value for value in tensor.data]
    return struct.pack(f"<{len(values)}{_FORMATS[tensor.datatype]}", *values)
