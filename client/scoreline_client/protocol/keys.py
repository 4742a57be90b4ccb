"""Every key that Scoreline uses in Redis; no other module spells out a key.

All keys of a queue share the hash tag `{<queue>}`, so that a cluster keeps them on one node.
Celery's own keys are Celery's; no caller needs rights on them.

| key                          | type    | lifetime              | written by       | read by          |
|------------------------------|---------|-----------------------|------------------|------------------|
| scoreline:{q}:online         | stream  | entry until answered  | client           | worker           |
| scoreline:{q}:bulk           | stream  | entry until answered  | client           | worker           |
| scoreline:{q}:result:<id>    | string  | result_ttl_s          | worker, cancel   | client           |
| scoreline:{q}:job:<id>       | string  | until the job expires, plus result_ttl_s | client | client |
| scoreline:{q}:submission:<id>| string  | as long as the job's record | gateway    | gateway          |
| scoreline:{q}:jobs           | zset    | score: end of lease, unix ms; an hour after the last chunk | client, worker | client, worker |
| scoreline:{q}:progress:<job> | string  | the job's lease       | client           | metrics          |
| scoreline:{q}:reply:<client> | list    | result_ttl_s, renewed | worker           | that client      |
| scoreline:{q}:callers:<lane> | string  | a day, less if they go | client, worker  | client           |
| scoreline:{q}:attempts       | hash    | field while scored apart, at most a day after the last | worker, cancel | worker |
| scoreline:{q}:dead           | stream  | 7 days, newest 1,000, 32 MiB | worker, operator | operator  |
| scoreline:{q}:hint:<name>    | string  | one second            | worker           | worker           |
| scoreline:{q}:processes      | zset    | score: last report, unix s | worker           | client, operator |
| scoreline:{q}:process:<name> | string  | a few seconds, renewed| worker           | client, operator |
| scoreline:{q}:history:<step> | list    | its newest points; 4 hours after the last | worker | metrics |
| scoreline:{q}:totals         | hash    | stays                 | worker           | operator         |
| scoreline:{q}:http           | hash    | stays                 | gateway          | gateway          |
| scoreline:celery:<q>:…       | Celery's | Celery's             | worker           | worker           |
| scoreline:{q}:releases       | channel | –                     | promote, publish | worker           |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GROUP = "workers"
"""The consumer group, on both lanes, that all workers of a queue read with."""


class Lane(StrEnum):
    """Which stream a request waits in."""

    ONLINE = "online"
    """Small requests that want low latency; always read first."""
    BULK = "bulk"
    """Chunks of files and frames, read when no online request waits."""


@dataclass(frozen=True)
class Keys:
    """The keys of one queue."""

    queue: str

    def _key(self, *parts: str) -> str:
        return ":".join((f"scoreline:{{{self.queue}}}", *parts))

    def lane(self, lane: Lane) -> str:
        return self._key(lane.value)

    def callers(self, lane: Lane) -> str:
        return self._key("callers", lane.value)

    def result(self, request_id: str) -> str:
        return self._key("result", request_id)

    def job(self, request_id: str) -> str:
        return self._key("job", request_id)

    def submission(self, request_id: str) -> str:
        return self._key("submission", request_id)

    @property
    def jobs(self) -> str:
        return self._key("jobs")

    def progress(self, job_id: str) -> str:
        return self._key("progress", job_id)

    def reply(self, client_id: str) -> str:
        return self._key("reply", client_id)

    @property
    def attempts(self) -> str:
        return self._key("attempts")

    @property
    def dead(self) -> str:
        return self._key("dead")

    def hint(self, name: str) -> str:
        return self._key("hint", name)

    @property
    def processes(self) -> str:
        return self._key("processes")

    def process(self, name: str) -> str:
        return self._key("process", name)

    def history(self, step_s: int) -> str:
        return self._key("history", str(step_s))

    @property
    def totals(self) -> str:
        return self._key("totals")

    @property
    def http(self) -> str:
        return self._key("http")

    @property
    def celery_prefix(self) -> str:
        """Before every key of Celery, so that other applications on the server are not met."""
        return f"scoreline:celery:{self.queue}:"

    @property
    def releases(self) -> str:
        return self._key("releases")
