"""The worker's scoring without a queue: requests and bodies in, answers out."""

from __future__ import annotations

from dataclasses import dataclass

from scoreline_artifacts.loading.version import LoadedVersion
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.messages import Answer, ModelRef, Request
from scoreline_tasks.scoring.arrow_codec import ArrowBody
from scoreline_tasks.scoring.batch import Batcher, Entry
from scoreline_tasks.scoring.csv_codec.codec import CsvBody
from scoreline_tasks.scoring.limits import Limits
from scoreline_tasks.scoring.predict import Body, CodecResult, score_frame
from tests.support.worker import entry_fields


@dataclass(frozen=True)
class OneVersion:
    """A registry in which every reference names the same version."""

    loaded: LoadedVersion

    def resolve(self, ref: ModelRef, asked_at: float = 0.0) -> LoadedVersion:
        return self.loaded


def entry_of(request: Request, entry_id: bytes = b"1000-0", lane: Lane = Lane.BULK) -> Entry:
    """A request as a worker reads it from its lane."""
    return Entry(lane, entry_id, entry_fields(request))


def answer_to(request: Request, loaded: LoadedVersion, max_records: int = 100_000) -> Answer:
    """What a worker with one version answers."""
    batcher = Batcher(OneVersion(loaded), Limits(1 << 24, max_records))
    (finished,) = batcher.answer([entry_of(request)], 1000)
    return Answer.decode(finished.answer)


def score_csv_chunk(body: bytes, loaded: LoadedVersion) -> CodecResult:
    """Score the rows of a `csv` body."""
    return _score(CsvBody(body, loaded), loaded)


def score_arrow(
    body: bytes, loaded: LoadedVersion, options: RequestOptions = NO_OPTIONS
) -> CodecResult:
    """Score an IPC stream."""
    return _score(ArrowBody(body, loaded, options), loaded)


def _score(body: Body, loaded: LoadedVersion) -> CodecResult:
    (result,) = body.results(*score_frame(loaded, body.checked.frame))
    return result
