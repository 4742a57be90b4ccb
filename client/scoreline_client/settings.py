"""The client's settings, and how any settings class of Scoreline reads the environment."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Self, get_type_hints
from urllib.parse import SplitResult, parse_qsl, urlsplit

from scoreline_client.errors import SettingsError
from scoreline_client.shown import shown_url

PREFIX = "SCORELINE_"


@dataclass(frozen=True, kw_only=True)
class EnvironmentSettings:
    """A frozen dataclass whose field `redis_url` is read from `SCORELINE_REDIS_URL`, and so on.

    Fields are `str`, `int` or `float`; numbers must not be below the field's `minimum` metadata
    (0 if none is given).
    """

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **overrides: Any
    ) -> Self:
        """Read every field from its variable; arguments that are not None win.

        Raises:
            SettingsError: a variable holds an unusable value; the message names it.
        """
        source = os.environ if environment is None else environment
        hints = get_type_hints(cls)
        values = {name: value for name, value in overrides.items() if value is not None}
        for name, value in values.items():
            if hints[name] is str and not isinstance(value, str):
                raise SettingsError(name, value, "text")
        for setting in fields(cls):
            name, variable = setting.name, PREFIX + setting.name.upper()
            # An empty variable is none, but where a default would be a guess.
            is_set = source.get(variable) or (
                setting.metadata.get("not_empty") and variable in source
            )
            if name not in values and is_set:
                values[name] = _convert(variable, source[variable], hints[name])
            if name in values and isinstance(values[name], int | float):
                minimum = setting.metadata.get("minimum", 0)
                if not minimum <= values[name] < math.inf:
                    raise SettingsError(variable, values[name], f"a number from {minimum} up")
            choices = setting.metadata.get("choices")
            if choices and values.get(name, setting.default) not in choices:
                raise SettingsError(variable, values[name], f"one of {', '.join(choices)}")
            if name not in values and setting.default is setting.default_factory is MISSING:
                raise SettingsError(variable, None, "a value")
        return cls(**values)


def _convert(variable: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        raise SettingsError(variable, text, expected) from error


def at_least(minimum: float, default: float) -> Any:
    """Declare a numeric field with a lower bound."""
    return field(default=default, metadata={"minimum": minimum})


def one_of(default: str, *others: str) -> Any:
    """Declare a field with a closed set of texts."""
    return field(default=default, metadata={"choices": (default, *others)})


@dataclass(frozen=True, kw_only=True)
class ClientSettings(EnvironmentSettings):
    """What a caller may set. Each field is read from `SCORELINE_<NAME>`."""

    redis_url: str = field(default="redis://127.0.0.1:6379/0", metadata={"not_empty": True})
    """The Redis server that holds the queue; `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0` for the primary
    that sentinels name."""
    queue: str = "default"
    """The queue's name: workers answer the requests of callers with the same queue."""
    result_ttl_s: int = at_least(1, 3600)
    """Seconds that a job's result stays retrievable by its id. The result of a request whose caller waits stays
    for a minute after the request's own time, and not for longer than this."""
    queue_limit: int = at_least(1, 2_000_000)
    """Callers whose requests may wait in a lane before new ones are refused with QueueFull."""
    memory_limit_percent: int = at_least(1, 70)
    """Percent of the server's maxmemory from which new requests are refused with QueueFull."""
    max_request_bytes: int = at_least(1024, 16 * 1024 * 1024)
    """Bytes that one request's body may have; workers refuse larger ones too."""
    max_request_records: int = at_least(1, 100_000)
    """Records that one request may hold; workers refuse larger ones too."""
    durable_replicas: int = at_least(0, 0)
    """Replicas that must have a job before `submit` says that it is accepted; 0 asks for none."""
    state: str = "~/.local/state/scoreline"
    """Directory where an output that goes to a URL grows until it is complete."""
    allow_no_password: int = at_least(0, 0)
    """1 lets callers and workers use a server on the network without a password; 0 refuses to."""
    traces: int = at_least(0, 0)
    """1 traces requests with OpenTelemetry, for which the extra `otel` is needed; see docs/metrics.md."""
    log: str = one_of("text", "json")
    """How workers and gateways log: `json` is one object a line, see docs/metrics.md."""
    names_others: ClassVar[bool] = True
    """Whether callers who ask for a model that nobody serves are told which ones are served."""

    @property
    def server(self) -> str:
        """The server's address as it may be shown: without a password."""
        return shown_url(self.redis_url)

    @property
    def is_guarded(self) -> bool:
        """Whether the URL, which was checked, has a password for its server, or that is on this machine."""
        sentinel = SentinelUrl.parse(self.redis_url)
        if sentinel is not None:
            return _is_guarded(urlsplit(sentinel.server), [host for host, _ in sentinel.sentinels])
        split_url = urlsplit(self.redis_url)
        return _is_guarded(split_url, [split_url.hostname])

    def check_redis_url(self, name: str = "SCORELINE_REDIS_URL") -> None:
        """Check that the URL is that of a Redis server, and that the server is not open to a network.

        `name` is what the URL was given as.

        Raises:
            SettingsError: it is not so; the message does not show a password.
        """
        try:
            sentinel = SentinelUrl.parse(self.redis_url)
            url = self.redis_url if sentinel is None else sentinel.server
            split_url = urlsplit(url)
            _ = split_url.port
            if split_url.scheme == "unix":
                is_usable = "://" in self.redis_url and bool(split_url.path)
            else:
                # A password with a character of URLs in it ends the address too early.
                is_usable = (
                    split_url.scheme in ("redis", "rediss")
                    and bool(split_url.hostname)
                    and "@" not in split_url.fragment
                    and re.fullmatch("(/[0-9]*)?", split_url.path) is not None
                )
        except (ValueError, TypeError, AttributeError):
            is_usable = False
        if not is_usable:
            raise SettingsError(name, *_url_fault(self.redis_url))
        import redis  # half of what `scoreline --version` would take

        try:
            # Only the library knows the options of its connections; this one is not opened.
            redis.Redis.from_url(url).connection_pool.make_connection()
        except (ValueError, TypeError) as error:
            # Their values may be secrets.
            options = "&".join(f"{option}=…" for option, _ in parse_qsl(split_url.query))
            expected = f"options of redis-py behind the question mark ({error})"
            raise SettingsError(name, f"{self.server}?{options}", expected) from error
        if not self.allow_no_password and not self.is_guarded:
            expected = (
                "a user and a password for a server that is not on this machine, redis://USER:PASSWORD@HOST:PORT/0: "
                "without them, whoever reaches it reads all records and answers, and can forge them. "
                "`scoreline acl` prints users and their rights. Where only your own programs reach the server: "
                "SCORELINE_ALLOW_NO_PASSWORD=1"
            )
            raise SettingsError(name, self.server, expected)


def _url_fault(url: object) -> tuple[object, str]:
    """A URL that cannot be used, as it may be shown, and what is expected in its place."""
    if not isinstance(url, str):
        return url, "a URL as text, such as redis://HOST:PORT/0"
    location = url.partition("://")[2]
    credentials, _, address = location.rpartition("@")
    host, port = re.match(r"(?:[^/?#]*@)?(.*?)(?::([^:/?#]*))?(?=[/?#]|$)", location).groups()  # type: ignore[union-attr]
    # A sign that ends an address stands before the last @: in the password, unless an option holds that @.
    signs = [sign for sign in "/?#" if sign in credentials]
    is_torn = not host or not (port or "").isdecimal() or "?" not in credentials
    if signs and is_torn and ":" in credentials:
        escapes = " and ".join(f"{sign!r} as %{ord(sign):X}" for sign in signs)
        masked = f"{url.partition('://')[0]}://:***@{address.partition('?')[0]}"
        return masked, f"a password with {escapes}: as it is, it ends the address"
    if host and port and port.isdecimal() and int(port) > 65535:
        return shown_url(url), "a port from 1 to 65535"
    return shown_url(url), (
        "a URL such as redis://HOST:PORT/0, rediss://:PASSWORD@HOST:PORT/0, unix:///PATH or "
        "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0; in a password, "
        "characters such as / # ? @ are written as %2F %23 %3F %40"
    )


def _is_guarded(split_url: SplitResult, hosts: Sequence[str | None]) -> bool:
    """Whether a URL has a password or a certificate for its server, or the server is on this machine."""
    options = {name for name, _ in parse_qsl(split_url.query)}
    if split_url.scheme == "unix" or split_url.password or options & {"password", "ssl_certfile"}:
        return True
    try:
        names = {host or "localhost" for host in hosts} - {"localhost"}
        return all(ipaddress.ip_address(name).is_loopback for name in names)
    except ValueError:  # a name
        return False


SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DATABASE?OPTIONS`: the primary of a service.

    `rediss+sentinel://` speaks TLS, to the sentinels as well. User and password are those of the servers.
    """

    sentinels: list[tuple[str, int]]
    """Hosts and ports of the sentinels, which know where the primary is."""
    service: str
    """The name under which the sentinels know it."""
    server: str
    """The URL of the servers with everything but their addresses: a sentinel's stands in their place."""

    @classmethod
    def parse(cls, url: str) -> SentinelUrl | None:
        """Read a URL; None if it is that of a server itself.

        Raises:
            ValueError: it is not in this form.
        """
        scheme, separator, location = url.partition("+sentinel://")
        if not separator:
            return None
        location, question_mark, options = location.partition("?")
        authority, _, path = location.partition("/")
        user, at, hosts = authority.rpartition("@")
        service, _, database = path.partition("/")
        addresses = [urlsplit(f"//{host}") for host in hosts.split(",")]
        sentinels = [
            (address.hostname or "", address.port or SENTINEL_PORT) for address in addresses
        ]
        is_complete = service and "@" not in path and all(host for host, _ in sentinels)
        if not is_complete or not (database or "0").isdigit():
            raise ValueError(
                "not in the form redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE"
            )
        server = (
            f"{scheme}://{user}{at}{addresses[0].netloc}/{database or 0}{question_mark}{options}"
        )
        return cls(sentinels, service, server)


OF_OTHER_PACKAGES = frozenset(
    [
        "batch_limit_s",
        "batch_records",
        "gateway_allow_no_tokens",
        "gateway_body_s",
        "gateway_buffer_mb",
        "gateway_files",
        "gateway_files_mb",
        "gateway_files_s",
        "gateway_host",
        "gateway_in_flight",
        "gateway_model",
        "gateway_port",
        "gateway_timeout_s",
        "gateway_tokens",
        "lease_s",
        "load_limit_mb",
        "load_limit_s",
        "max_versions",
        "memory_limit_mb",
        "models",
        "poll_s",
        "remote_control",
        "serve_unreleased",
        "slice_s",
        "strict_environment",
        "suggestions",
    ]
)
"""The settings of workers and gateways, which may stand in a caller's environment, too."""


def misspelt_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each variable that looks like a setting of Scoreline with a slip in its name.

    Others that begin with SCORELINE_ may be anybody's: Kubernetes, for one, names its services so.
    """
    source = os.environ if environment is None else environment
    own = [setting.name for setting in (*fields(ClientSettings), *fields(ArtifactSettings))]
    settings = sorted(name.upper() for name in (*own, *OF_OTHER_PACKAGES))
    variables = {PREFIX + name for name in settings}
    sentences = []
    for variable in sorted(source):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or variable in variables:
            continue
        near = get_close_matches(name, settings, n=1, cutoff=0.8)
        if near:
            sentences.append(f"{variable} is no setting; did you mean {PREFIX}{near[0]}?")
    return sentences


KEYS = ("XDG_CONFIG_HOME", "~/.config", "scoreline/keys")
CACHE = ("XDG_CACHE_HOME", "~/.cache", "scoreline")


def user_folder(variable: str, default: str, name: str) -> str:
    """A folder in an XDG base directory, on every system; an empty text where the user has no home directory."""
    # Not Path.expanduser, which raises then.
    base = os.path.expanduser(os.environ.get(variable) or default)  # noqa: PTH111
    return os.path.join(base, name) if os.path.isabs(base) else ""  # noqa: PTH117, PTH118


@dataclass(frozen=True, kw_only=True)
class ArtifactSettings(EnvironmentSettings):
    """Where artifacts, keys and cached files are. Each field is read from `SCORELINE_<NAME>`."""

    artifacts: str = "artifacts/store"
    """The artifact store: a folder, or a URL such as `s3://bucket/models`."""
    keys: str = field(default_factory=lambda: user_folder(*KEYS))
    """The folder of the keys that sign and of those that are trusted."""
    cache: str = field(default_factory=lambda: user_folder(*CACHE))
    """The folder of files from a bucket, and of how far release logs were seen to go."""
    plan: int = at_least(0, 1)
    """0 scores with the pipelines alone, and not with the plans that publishing has proved to answer as they do."""
    plan_proof_s: float = at_least(0, 2.0)
    """Seconds in which publishing proves a plan: where the pipeline is slow, more of them try more rows. 0 proves none, and the
    pipeline scores everything."""

    @property
    def key_folder(self) -> str:
        """The folder of keys.

        Raises:
            SettingsError: none is named, and the user has no home directory: a folder below the working directory
                would be anybody's.
        """
        return _required("SCORELINE_KEYS", self.keys)

    @property
    def cache_folder(self) -> str:
        """The cache's folder; raises SettingsError like `key_folder`."""
        return _required("SCORELINE_CACHE", self.cache)


def _required(variable: str, folder: str) -> str:
    if not folder:
        expected = "a folder of this user, who has no home directory"
        raise SettingsError(variable, None, expected)
    return folder
