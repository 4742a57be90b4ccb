"""`scoreline acl`: users of the Redis server with no more rights than each kind of program needs.

The rules follow from the commands that the programs send: a test runs every workflow with these users, and tries
what each of them must not do.
"""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

import click

from scoreline_client.cli.kit import command
from scoreline_client.errors import SettingsError
from scoreline_client.protocol.keys import Keys, Lane
from scoreline_client.settings import ClientSettings

HASH = "#SHA256-OF-THE-PASSWORD"
"""No hash: the server refuses the rule until the operator has put one there, so that no user lacks a password."""


class Role(StrEnum):
    """A kind of program that uses a queue."""

    CALLER = "caller"
    """A program in any language that follows docs/wire-format.md: asks, and reads the answers."""
    PREDICTOR = "predictor"
    """The Python client, for predict and for predict_many of up to 1,000 records."""
    CLIENT = "client"
    """The Python client and the command line, for files, frames and jobs as well."""
    GATEWAY = "gateway"
    """A gateway: predictions, jobs and files, `/metrics` and the live page."""
    WORKER = "worker"
    """A worker."""
    OPERATOR = "operator"
    """`scoreline status`, `promote` and `rollback`, and the dead letters."""
    TRAINER = "trainer"
    """`publish()` and `scoreline train`, which announce a release."""
    METRICS = "metrics"
    """`scoreline metrics`, `health` and `status --watch`."""
    INSPECT = "inspect"
    """`celery inspect` and `celery control`, with SCORELINE_REMOTE_CONTROL=1: it can stop all workers."""


_RULES = {
    Role.CALLER: """
        (+xadd +xlen %W~{online} %W~{bulk})
        (+blpop +blmpop ~{replies})
        (+get %R~{results})""",
    Role.PREDICTOR: """
        +info
        (+evalsha ~{online} ~{online_callers} ~{results}) (+get +set +incrby ~{online_callers})
        (+xadd +xlen +xpending +xinfo|groups ~{online})
        (+xlen %R~{bulk})
        (+blmpop +unlink ~{replies})
        (+get +mget +exists +unlink ~{results})
        (+zrange %R~{processes}) (+mget %R~{reports})""",
    Role.CLIENT: """
        +info +time
        (+evalsha ~{online} ~{bulk} ~{callers} ~{jobs} ~{records} ~{results} ~{attempts})
        (+get +set +incrby ~{callers})
        (+xadd +xlen +xdel +xpending +xinfo|groups +exists ~{online} ~{bulk})
        (+zadd +zscore +zcount +zrem ~{jobs}) (+set %W~{progress})
        +wait (+set +get +pexpire ~{records}) (+set +get ~{submissions})
        (+hdel %W~{attempts})
        (+blmpop +unlink ~{replies})
        (+set +get +mget +exists +unlink ~{results})
        (+zrange %R~{processes}) (+mget %R~{reports})""",
    Role.WORKER: """
        +info +time +script|load +script|exists +multi +exec +watch +unwatch
        (+xgroup|create +xgroup|delconsumer +xinfo|consumers +xinfo|groups +xinfo|stream +xreadgroup
         +xack +xdel +xclaim +xpending +xrange +xlen +xadd +del ~{online} ~{bulk})
        (+evalsha +eval ~{online} ~{bulk} ~{callers} ~{attempts} ~{results} ~{replies})
        (+decrby +del ~{callers})
        (+set +exists ~{results})
        (+rpush +pexpire ~{replies})
        (+hincrby +hmget +hdel +exists +pexpire +evalsha ~{attempts})
        (+xadd +xlen +xrange +xrevrange +xdel +xtrim +pexpire +evalsha ~{dead})
        (+set +del +evalsha ~{hints})
        (+zscore +zremrangebyscore +pexpire ~{jobs})
        (+zadd +zrem +zremrangebyscore +evalsha ~{processes})
        (+evalsha ~{online} ~{bulk} ~{history}) (+lindex +lset +lpush +lpop +ltrim +expire ~{history})
        (+get +set +del +evalsha ~{reports})
        (+evalsha ~{reports} ~{processes} ~{totals})
        (+hexists +hgetall +hset +hincrby +hdel ~{totals})
        (+subscribe +unsubscribe &{releases})
        (+publish &{events})
        {of_celery}""",
    Role.OPERATOR: """
        +info +time
        (+xlen +xpending +xinfo|consumers +xinfo|groups %R~{online} %R~{bulk})
        (+zrange %R~{processes}) (+mget %R~{reports})
        (+publish &{releases})
        (+xlen +xrange +xrevrange +xdel +del ~{dead})
        (+evalsha ~{online} ~{online_callers} ~{results}) (+get +set +incrby ~{online_callers})
        (+xadd ~{online})
        (+blmpop +unlink ~{replies})
        (+get +mget +exists +unlink ~{results})""",
    Role.TRAINER: """
        (+publish &{releases})""",
    Role.METRICS: """
        +info +time
        (+eval_ro +xlen +xrange +xpending +xinfo|groups %R~{online} %R~{bulk})
        (+xlen %R~{dead}) (+hgetall %R~{totals})
        (+zrange %R~{processes}) (+mget %R~{reports})
        (+lrange %R~{history}) (+zrange %R~{jobs}) (+getrange %R~{progress})""",
    Role.INSPECT: """
        +time +multi +exec +watch +unwatch +script|load +script|exists
        (+publish &{control})
        {of_celery}""",
}
_RULES[Role.GATEWAY] = _RULES[Role.CLIENT] + _RULES[Role.METRICS] + " (+hincrby +hgetall ~{http})"
_OF_CELERY = (
    "(+evalsha +brpop +lpush +rpop +llen +sadd +srem +smembers +zadd +zrem +zrange +zrangebyscore +zrevrangebyscore "
    "+hget +hdel +hset +set +get +del +exists +expire +pexpire +pttl +watch ~{celery})"
)
"""Rights on Celery's own keys: whoever has these can call any of its tasks."""
_CONNECTS = "+select +ping +client|setinfo"
_LISTENS = "\n(+psubscribe +punsubscribe +publish &{control} &{events})"
"""Rights that a worker needs besides, with SCORELINE_REMOTE_CONTROL=1. A server compares these two literally."""


def rights(role: Role, queue: str, *, database: int = 0, remote_control: bool = False) -> str:
    """The rights of a role on one queue, as words of `ACL SETUSER`.

    A pattern with `*` stands for names of 128 random bits, and nobody but workers may list these names or read what
    holds them: so only its caller finds a result, a job or a reply list.
    """
    keys = Keys(re.sub(r"([\\*?\[\]])", r"\\\1", queue))
    channels = f"{keys.celery_prefix}/{database}."
    patterns = {
        "online": keys.lane(Lane.ONLINE),
        "bulk": keys.lane(Lane.BULK),
        "online_callers": keys.callers(Lane.ONLINE),
        "callers": keys.callers(Lane.ONLINE).removesuffix(Lane.ONLINE) + "*",
        "results": keys.result("*"),
        "replies": keys.reply("*"),
        "records": keys.job("*"),
        "submissions": keys.submission("*"),
        "jobs": keys.jobs,
        "progress": keys.progress("*"),
        "attempts": keys.attempts,
        "dead": keys.dead,
        "hints": keys.hint("*"),
        "processes": keys.processes,
        "reports": keys.process("*"),
        "history": keys.history(0).removesuffix("0") + "*",
        "totals": keys.totals,
        "http": keys.http,
        "releases": keys.releases,
        "celery": f"{keys.celery_prefix}*",
        "control": f"{channels}celery.pidbox",
        "events": f"{channels}celeryev/worker.*",
    }
    rules = _CONNECTS + _RULES[role].replace("{of_celery}", _OF_CELERY)
    if role is Role.WORKER and remote_control:
        rules += _LISTENS
    return " ".join(rules.format(**patterns).split())


def users(
    roles: list[Role], queue: str, *, database: int, remote_control: bool, as_file: bool
) -> list[str]:
    """A line for each user: commands for a running server, or all of a file for its `aclfile` setting.

    Raises:
        SettingsError: the queue's name has a blank, which separates the words of a rule.
    """
    if re.search(r"[\s\"'()]", queue):
        raise SettingsError(
            "SCORELINE_QUEUE",
            queue,
            "a name without blanks, quotes and brackets, for rules to name it",
        )
    start = "user" if as_file else "ACL SETUSER"
    # The file replaces all users that the server has.
    other_users = (
        ["user default reset off", f"user admin reset on {HASH} ~* &* +@all"] if as_file else []
    )
    return other_users + [
        f"{start} scoreline-{queue}-{role} reset on {HASH} "
        + rights(role, queue, database=database, remote_control=remote_control)
        for role in roles
    ]


@command()
@click.argument("roles", nargs=-1, type=click.Choice([role.value for role in Role]))
@click.option("--queue", help="The queue's name; if not given, SCORELINE_QUEUE.")
@click.option(
    "--database",
    type=click.IntRange(min=0),
    help="The number of the server's database; if not given, that of SCORELINE_REDIS_URL.",
)
@click.option("--remote-control", is_flag=True, help="For workers with SCORELINE_REMOTE_CONTROL=1.")
@click.option("--aclfile", "as_file", is_flag=True, help="Print a file for the server's `aclfile`.")
def acl(
    roles: tuple[str, ...],
    queue: str | None,
    database: int | None,
    remote_control: bool,
    as_file: bool,
) -> None:
    """Print a user of the Redis server for each of ROLES, with no more rights than it needs.

    \b
    caller     a program in any language that asks (docs/wire-format.md)
    predictor  the Python client, for predict and predict_many of up to 1,000 records
    client     the Python client and this program, for files, frames and jobs as well
    gateway    scoreline gateway: a client that shows metrics and the live page
    worker     a worker
    operator   status, promote, rollback, and the dead letters
    trainer    publish() and train
    metrics    metrics and health; it could read requests, and says only how old they are
    inspect    celery inspect and control, where workers listen to it

    One queue's users have no rights on another's. The names of the users are proposals. Put the hash
    of a password where it says so: printf %s "$PASSWORD" | sha256sum

    \b
    Examples:
      scoreline acl
      scoreline acl caller worker --queue loans
      scoreline acl --aclfile > users.acl
    """
    settings = ClientSettings.from_environment(queue=queue)
    if database is None:
        url = urlsplit(settings.redis_url)
        number = parse_qs(url.query).get("db", [url.path.strip("/")])[0]
        database = int(number) if number.isdecimal() and url.scheme != "unix" else 0
    chosen = [Role(role) for role in roles]
    chosen = chosen or [role for role in Role if role is not Role.INSPECT or remote_control]
    for line in users(
        chosen, settings.queue, database=database, remote_control=remote_control, as_file=as_file
    ):
        click.echo(line)
