"""The service as a client sees it: whether workers serve the queue, what they serve, and how much waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scoreline_client.fleet import ProcessReport, served_models
from scoreline_client.protocol.json_records import check_model
from scoreline_client.protocol.keys import Lane
from scoreline_client.protocol.names import split_reference

if TYPE_CHECKING:
    from scoreline_client.transport.dispatcher import Transport


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """The queue and the processes that serve it, at a moment."""

    server: str
    """The Redis server's URL, without a password."""
    queue: str
    waiting: dict[Lane, int]
    """Requests that are queued or being scored, by lane."""
    processes: list[ProcessReport]
    """As they report every two seconds; who has not for eight is not among them."""

    @property
    def is_served(self) -> bool:
        """Whether some process answers requests."""
        return any(process.scores for process in self.processes)

    @property
    def models(self) -> dict[str, list[int]]:
        """The versions that answer, by `<model>@<alias>`: several while a release is on its way, none while it loads."""
        versions: dict[str, set[int]] = {}
        for _, models in served_models(self.processes):
            for name, served in models.items():
                serving = () if served.serving is None else (served.serving,)
                versions.setdefault(name, set()).update(serving)
        return {name: sorted(versions[name]) for name in sorted(versions)}

    def serves(self, model: str) -> bool:
        """Whether some process answers to `name`, `name@alias` or `name@version` without loading anything first.

        Raises:
            UnknownModel: it is no name of a model.
        """
        name, alias, version = split_reference(check_model(model))
        models = self.models
        if alias is not None:
            return bool(models.get(f"{name}@{alias}"))
        return any(version in models[served] for served in models if served.startswith(f"{name}@"))

    def __repr__(self) -> str:
        scoring = sum(process.scores for process in self.processes)
        waiting = sum(self.waiting.values())
        names = ", ".join(
            f"{name} {'/'.join(map(str, versions)) or '-'}"
            for name, versions in self.models.items()
        )
        return f"<queue {self.queue}: scoring processes {scoring}, waiting requests {waiting}; {names or 'no model'}>"


async def read_service(transport: Transport, timeout_s: float) -> ServiceStatus:
    """Ask the server about the queue.

    Raises:
        ServerUnreachable: it does not answer within `timeout_s`.
    """

    async def read() -> ServiceStatus:
        processes = await transport.reports()
        waiting = {lane: await transport.redis.xlen(transport.keys.lane(lane)) for lane in Lane}
        settings = transport.settings
        return ServiceStatus(
            server=settings.server, queue=settings.queue, waiting=waiting, processes=processes
        )

    return await transport.repeat(read, timeout_s)
