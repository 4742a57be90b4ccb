"""The faults, each with how it is injected, how often, and what is promised under it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from scoreline_tasks.settings import WorkerSettings
from tests.faults import changes, hosts, network, processes, servers
from tests.faults.ground import Ground, Outcome

LEASE_S = WorkerSettings().lease_s


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and what is promised under it."""

    name: str
    what: str
    run: Callable[[Ground, int], Outcome]
    full: int
    """How often it is injected by `make faults`."""
    brief: int = 1
    """How often in `make test`; 0 leaves it out there."""
    limit_s: float = math.inf
    """Within which no answer is held up any more."""
    source: str
    """Where the limit comes from."""
    may_be_late: bool = False
    """Whether the service is away for longer than a caller's default time limit."""
    goes_back: bool = False
    """Whether the server goes back to an earlier state: what was accepted since may be lost, and what was answered since is
    answered again, to nobody who waits; both are counted."""

    def failures(self, outcome: Outcome, *, timed: bool = True) -> list[str]:
        """What was not as promised; without `timed` it may have taken any time."""
        verdict, late = outcome.verdict, [s for s in outcome.recoveries_s if s > self.limit_s]
        found = list(outcome.failures)
        found += [f"lost: {one}" for one in verdict.lost if not self.goes_back]
        found += [f"answered twice: {one}" for one in verdict.twice if not self.goes_back]
        found += [f"wrong: {one}" for one in verdict.wrong]
        found += [f"late: {one}" for one in verdict.late if not self.may_be_late]
        if late and timed:
            found.append(f"{len(late)} of {outcome.n} took over {self.limit_s:g} s: {late[:5]}")
        return found


CHILD_S = 1.5
"""A dead process's requests are taken over at once."""
HALF_OPEN_S = {"worker": 5.0, "client": 3.0}
SERVER_S = 3.0
"""Within which a worker serves again once its server is well."""
MACHINE_S = LEASE_S + 1
DEPLOY_S = 0.4
"""0.3 s more than the slowest answer of a quiet load."""

FAULTS = (
    Fault(
        name="F1",
        what="kill -9 for a process with a batch in hand",
        run=processes.child_killed,
        full=100, brief=3, limit_s=CHILD_S, source="taken over at once",
    ),
    Fault(
        name="F1c",
        what="the same, for a worker of one process",
        run=processes.only_child_killed,
        full=30, brief=0, limit_s=CHILD_S + 1.5, source="taken over at once; a process is forked",
    ),
    Fault(
        name="F2",
        what="kill -9 for a whole worker, started again",
        run=processes.group_killed,
        full=100, limit_s=MACHINE_S, source="lease + 1 s after it is ready", may_be_late=True,
    ),
    Fault(
        name="F3",
        what="SIGSTOP for a process with a batch in hand, 30 s",
        run=processes.child_stopped,
        full=20, limit_s=MACHINE_S, source="lease + 1 s: its requests in hand", may_be_late=True,
    ),
    Fault(
        name="F4",
        what="kill -9 for the server, 1 s, append-only file",
        run=servers.server_killed,
        full=20, limit_s=SERVER_S, source="server well + 3 s",
    ),
    Fault(
        name="F4a",
        what="the same, 45 s",
        run=servers.server_away_for_long,
        full=2, brief=0, limit_s=SERVER_S, source="server well + 3 s", may_be_late=True,
    ),
    Fault(
        name="F4b",
        what="power loss: the file's last second is gone (recovery: seconds lost)",
        run=servers.power_lost,
        full=5, limit_s=1.1, source="appendfsync everysec", goes_back=True,
    ),
    Fault(
        name="F5",
        what="CLIENT KILL storm, CLIENT PAUSE, DEBUG SLEEP, 10 s each",
        run=servers.connections_killed,
        full=10, limit_s=SERVER_S, source="server well + 3 s", may_be_late=True,
    ),
    Fault(
        name="F6w",
        what="half-open connections of a worker",
        run=network.half_open_workers,
        full=10, limit_s=HALF_OPEN_S["worker"], source="5 s", may_be_late=True,
    ),
    Fault(
        name="F6c",
        what="half-open connections of clients",
        run=network.half_open_clients,
        full=10, limit_s=HALF_OPEN_S["client"], source="3 s",
    ),
    Fault(
        name="F7",
        what="reply lost, to a submission and to a finish",
        run=network.replies_lost,
        full=200, brief=4, limit_s=MACHINE_S, source="lease + 1 s", may_be_late=True,
    ),
    Fault(
        name="F8",
        what="200 ms a round trip, 1 MB/s, 30 s",
        run=network.slow,
        full=3, limit_s=SERVER_S, source="no error, no claim of live work",
    ),
    Fault(
        name="F9",
        what="a record that exits, faults, hangs natively, among 512",
        run=processes.poisoned,
        full=30, brief=3, limit_s=10 + processes.BATCH_LIMIT_S, source="10 s + limit of a batch (3 s)",
    ),
    Fault(
        name="F10",
        what="a record that takes 8 GB, of 1.5 that it may",
        run=processes.memory_taken,
        full=10, limit_s=10, source="10 s",
    ),
    Fault(
        name="F11",
        what="server with room for 32 MB, producers without a brake, 60 s",
        run=servers.full,
        full=3, limit_s=10, source="a refusal takes 50 ms; all accepted is answered",
    ),
    Fault(
        name="F12",
        what="damaged, foreign, hanging and evil artifacts",
        run=changes.damaged,
        full=1, brief=0, source="all refused, nobody notices",
    ),
    Fault(
        name="F13",
        what="news of a release lost, cut off, five times",
        run=changes.news_lost,
        full=50, brief=3, limit_s=5, source="5 s; never backwards",
    ),
    Fault(
        name="F14",
        what="20 releases in 10 s",
        run=changes.many_releases,
        full=5, source="two versions in memory",
    ),
    Fault(
        name="F15",
        what="workers an hour ahead and behind, processes killed",
        run=processes.clocks_differ,
        full=4, limit_s=CHILD_S, source="taken over at once; no early claim",
    ),
    Fault(
        name="F16",
        what="client killed after its submission, attached by id",
        run=processes.client_crashed,
        full=50, brief=4, source="answer there; every key has an end",
    ),
    Fault(
        name="F17",
        what="XGROUP DESTROY, DELCONSUMER, FLUSHALL",
        run=servers.flushed,
        full=3, limit_s=MACHINE_S, source="lease + 1 s; JobLost after FLUSHALL", may_be_late=True,
    ),
    Fault(
        name="F18",
        what="replica promoted behind one address",
        run=servers.replica_promoted,
        full=6, brief=2, limit_s=SERVER_S + 2, source="server well + 3 s; the loss is counted", may_be_late=True, goes_back=True,
    ),
    Fault(
        name="F19",
        what="messages and processes in any order: somebody listens (a model)",
        run=changes.wakeups,
        full=10, brief=0, source="as long as a process is free",
    ),
    Fault(
        name="F20",
        what="several hosts: partitions, lossy and slow links, one that vanishes",
        run=hosts.partitions,
        full=10, brief=3, limit_s=LEASE_S + 3, source="lease + 3 s after healing", may_be_late=True,
    ),
    Fault(
        name="F21",
        what="two workers of one name replaced by SIGTERM, one after the other (slowest answer)",
        run=processes.deployed,
        full=10, brief=0, limit_s=DEPLOY_S, source="0.3 s more than usual; one drain parked for each",
    ),
)  # fmt: skip


def named(names: Sequence[str]) -> list[Fault]:
    """The faults of these names; all without any."""
    known = {one.name.lower(): one for one in FAULTS}
    return [known[name.lower()] for name in names] if names else list(FAULTS)


COLUMNS = (
    "", "fault", "n", "accepted", "lost", "twice", "wrong", "late", "p50", "p99", "max", "limit", "bound", "",
)  # fmt: skip


def cells(fault: Fault, outcome: Outcome) -> list[str]:
    """A row of the table: times in seconds, and the bound of what was not seen in n times."""
    verdict, took = outcome.verdict, sorted(outcome.recoveries_s)
    counts = [verdict.lost, verdict.twice, verdict.wrong, verdict.late]
    times = ["–"] * 3
    if took:
        at = (len(took) // 2, math.ceil(len(took) * 0.99) - 1, -1)
        times = [f"{took[place]:.2f}" for place in at]
    is_clean = not any((verdict.lost, verdict.twice, verdict.wrong, outcome.failures))
    bound = f"{300 / outcome.n:.2g} %" if is_clean and outcome.n > 3 else "–"
    limit = f"≤ {fault.limit_s:g} s" if fault.limit_s < math.inf else fault.source
    says = "holds" if not fault.failures(outcome) else "fails"
    return [
        fault.name, fault.what, str(outcome.n), f"{verdict.accepted:,}",
        *(str(len(one)) for one in counts), *times, limit, bound, says,
    ]  # fmt: skip


def table(rows: Sequence[Sequence[str]]) -> Table:
    """The table as a terminal shows it."""
    shown = Table(*COLUMNS)
    for row in rows:
        shown.add_row(*row)
    return shown


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as documentation has it."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
