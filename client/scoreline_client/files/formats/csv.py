"""CSV and TSV: the text is cut at row ends, and workers do everything else.

The client never looks at a value. It reads the header, cuts the bytes behind it into chunks of whole
rows, and gets the same rows back with the answers appended.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from scoreline_client.files.columns import (
    OutputColumns,
    check_strict,
    choose_columns,
    extra_columns,
)
from scoreline_client.files.formats.csv_cutter import Chunk, CsvCutter
from scoreline_client.files.formats.csv_header import DELIMITERS, Header, check_header, read_header
from scoreline_client.files.formats.pieces import Described, Piece, Place, Written
from scoreline_client.files.reading_answers import predictions_from
from scoreline_client.files.source import Source
from scoreline_client.options import BulkOptions, CsvChunk
from scoreline_client.predictions import Prediction
from scoreline_client.protocol.csv_grammar import MAX_ROW_BYTES
from scoreline_client.protocol.messages import Answer, Codec


class CsvReader:
    """Reads a file of delimited text."""

    unit = "bytes"

    def __init__(
        self,
        source: Source,
        options: BulkOptions,
        *,
        wants_problems: bool,
        line_by_line: bool = True,
    ) -> None:
        """`line_by_line`: the input's lines come back as they are, also where they do not have as
        many fields as the header; otherwise each field stands in its place."""
        self.notes: list[str] = []
        self._source = source
        self._options = options
        self._wants_problems = wants_problems
        self._line_by_line = line_by_line
        self._described: Described
        self._head: partial[CsvChunk]
        self.header: Header
        self.columns: OutputColumns

    @property
    def total(self) -> int | None:
        """Stored bytes in all."""
        return self._source.size

    def begin(self, described: Described) -> tuple[bytes, Place]:
        """Read the header, and make the output's."""
        options, path = self._options, self._source.name
        self._described = described
        self.header = header = self._read_header(described)
        check_header(path, header, described.needed)
        if options.strict:
            check_strict(path, header.columns, described)
        self.columns = chosen = choose_columns(path, header.columns, described, options)
        self._note(described)
        self._head = partial(
            CsvChunk,
            columns=list(header.columns),
            delimiter=header.delimiter,
            comment=options.comment,
            encoding=header.encoding,
            decimal=options.decimal,
            thousands=options.thousands,
            nulls=options.nulls,
            strict=options.strict,
            unseen=options.unseen,
            out_of_range=options.out_of_range,
            coerce=options.coerce,
            columns_out=self._places(chosen),
            outputs=None if options.outputs is None else list(chosen.answers),
            excel_safe=options.excel_safe,
        )
        return self._output_header(), Place(header.size, 1, header.lines + 1)

    def pieces(self, start: Place, piece_bytes: Callable[[], int]) -> Iterator[Piece]:
        """Chunks of whole rows."""
        self._source.go_to(start.offset, at=self.header.size)
        cutter = CsvCutter(
            self._source.name,
            first_line=start.line,
            first_row=start.row,
            offset=start.offset,
            delimiter=self.header.delimiter,
            comment=self._options.comment,
        )
        for block in self._source.blocks(start.offset, piece_bytes, origin=self.header.size):
            if (chunk := cutter.feed(block)) is not None:
                yield self._piece(chunk, cutter)
        if (chunk := cutter.finish()) is not None:
            yield self._piece(chunk, cutter)

    def written(self, piece: Piece, answer: Answer) -> Written:  # noqa: ARG002 - a reader's signature
        """The worker's lines are the output."""
        return Written(answer.body, answer.rejected, answer.problems, answer.warned)

    def records(self, piece: Piece, answer: Answer) -> list[tuple[dict[str, Any], Prediction]]:
        """The worker's lines, read again."""
        text = bytes(answer.body).decode(self.header.encoding, "surrogateescape")
        # A process-wide limit of the csv module (131,072), in the way of rows that are let pass.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=self.header.delimiter)
        kept, answers = self.columns.kept, self.columns.answers
        fields = [line for line in lines if line]
        rows = [dict(zip(answers, line[len(kept) :], strict=True)) for line in fields]
        said = predictions_from(rows, self._described, answer.problems, piece.start.row)
        records = (dict(zip(kept, line, strict=False)) for line in fields)
        return list(zip(records, said, strict=True))

    def complete(self, part: Any, final: Any) -> bool:  # noqa: ARG002 - a reader's signature
        """The lines are the file already."""
        return False

    def _read_header(self, described: Described) -> Header:
        options, source = self._options, self._source
        if options.is_transcoded:
            source.decode(options.encoding)
        start = source.read(MAX_ROW_BYTES)
        header = read_header(
            source.name,
            start,
            needed=described.needed,
            whole=len(start) < MAX_ROW_BYTES,
            delimiter=options.delimiter,
            comment=options.comment,
            encoding=options.text_encoding,
        )
        source.unread(start[header.size :])
        return header

    def _places(self, chosen: OutputColumns) -> list[int] | None:
        if chosen.places is not None:
            return list(chosen.places)
        return None if self._line_by_line else list(range(len(self.header.columns)))

    def _note(self, described: Described) -> None:
        if self._options.delimiter is None and self.header.delimiter != ",":
            self.notes.append(f"columns are separated by {DELIMITERS[self.header.delimiter]}")
        if self._options.is_transcoded:
            self.notes.append(f"the output is UTF-8 (the input is {self._options.encoding})")
        unnamed = [place for place, name in enumerate(self.header.columns, start=1) if not name]
        if unnamed:
            self.notes.append(f"columns without a name: {', '.join(map(str, unnamed[:6]))}")
        extra = [name for name in extra_columns(self.header.columns, described) if name]
        if extra:
            listed = ", ".join(map(repr, extra[:6])) + (", …" if len(extra) > 6 else "")
            self.notes.append(f"the model does not use {listed}")

    def _output_header(self) -> bytes:
        chosen, header = self.columns, self.header
        if chosen.places is None and chosen.kept == header.columns:
            return header.with_columns(chosen.added)
        return header.of_columns(chosen.names)

    def _piece(self, chunk: Chunk, cutter: CsvCutter) -> Piece:
        head = self._head(
            first_row=chunk.first_row,
            first_line=chunk.first_line,
            problems=chunk.count if self._wants_problems else 0,
        )
        return Piece(
            body=head.encode(chunk.rows),
            codec=Codec.CSV,
            count=chunk.count,
            start=Place(chunk.offset, chunk.first_row, chunk.first_line),
            end=Place(*cutter.place),
            # What was read ahead is not done; but only plain bytes can be told apart.
            done=cutter.place[0] if self._source.is_stored_plain else self._source.position,
        )
