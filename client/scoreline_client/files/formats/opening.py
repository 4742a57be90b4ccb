"""Which format an input has, and the reader for it."""

from __future__ import annotations

from dataclasses import fields

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, SettingsError
from scoreline_client.files.compression import compression_by_name
from scoreline_client.files.formats.csv import CsvReader
from scoreline_client.files.formats.pieces import Reader
from scoreline_client.files.source import STANDARD, Source
from scoreline_client.options import BulkOptions, CsvFormat

_PARQUET_MAGIC = b"PAR1"
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


def open_reader(
    source: Source,
    target: str,
    options: BulkOptions,
    *,
    wants_problems: bool,
    line_by_line: bool = True,
) -> Reader:
    """The reader of an input's format.

    Raises:
        FileRefused: the output is to have another format.
    """
    kind = _input_format(source, options)
    wanted = options.output_format or _format_by_name(target) or kind
    if kind != wanted:
        message = (
            f"the input is {kind} and the output would be {wanted}; they must be the same: "
            "convert before or after"
        )
        raise FileRefused(Code.FILE, target, message)
    _check_options(kind, options)
    if kind == "csv":
        return CsvReader(source, options, wants_problems=wants_problems, line_by_line=line_by_line)
    if kind == "jsonl":
        from scoreline_client.files.formats.jsonl import JsonLinesReader

        return JsonLinesReader(source, options)
    from scoreline_client.files.formats.parquet import ParquetReader

    return ParquetReader(source, target, options, wants_problems=wants_problems)


def _check_options(kind: str, options: BulkOptions) -> None:
    """Refuse options that say nothing of a format, rather than forget them silently.

    Raises:
        SettingsError: one is given.
    """
    of_csv = {option.name for option in fields(CsvFormat)}
    for option in fields(options) if kind != "csv" else ():
        value = getattr(options, option.name)
        is_foreign = option.name in of_csv or (option.name, kind) == ("encoding", "parquet")
        if is_foreign and value != option.default:
            raise SettingsError(option.name, value, f"none: the input is {kind}, not csv")


def _input_format(source: Source, options: BulkOptions) -> str:
    if options.input_format is not None:
        return options.input_format
    if source.start.startswith(_PARQUET_MAGIC):
        return "parquet"
    return _format_by_name(source.name) or "csv"


def _format_by_name(name: str) -> str | None:
    """By the end of a name; csv where there is an end that says nothing else."""
    _, plain = compression_by_name(name)
    base = plain.rpartition("/")[2]
    if name == STANDARD or "." not in base:
        return None
    return _SUFFIXES.get(base[base.rindex(".") :].lower(), "csv")
