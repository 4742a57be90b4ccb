"""Who may: bearer tokens, their rights and models, and who is answered where there are no tokens.

The file of tokens has a line for each: the sha256 of the token in hexadecimal digits, a name for the log, the
models that it may ask (`*` for all, or names joined by commas) and its rights (`*`, or some of score, jobs,
metrics). It is read again when it changes.

    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  shop  pima,churn  score,jobs
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scoreline_client.errors import SettingsError
from scoreline_client.protocol.names import is_name
from scoreline_gateway.errors import HttpCode, HttpRefused
from scoreline_gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

CHECK_S = 1.0
"""Seconds between two looks at the file of tokens."""
ENDLESS = "scoreline.endless"
"""In the scope of a request whose answer ends with its caller alone: a gateway that is stopped does not wait for it."""
_HASH = re.compile("[0-9a-f]{64}")


class Right(StrEnum):
    """What a token may be good for."""

    SCORE = "score"
    """Ask for predictions, and what a model needs."""
    JOBS = "jobs"
    """Submit, look at and cancel jobs, and files."""
    METRICS = "metrics"
    """See counts, queues and workers."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a token belongs to."""

    name: str
    models: frozenset[str] | None
    """Names of models; None for all of them."""
    rights: frozenset[Right]

    def check(self, right: Right, model: str | None = None) -> None:
        """Check a right, and a model by its name or a reference to one of its versions.

        Raises:
            HttpRefused: the token is not good for it.
        """
        if right not in self.rights:
            message = f"the token of {self.name} does not have the right {right.value!r}"
            raise HttpRefused(403, HttpCode.FORBIDDEN, message)
        if model is not None and self.models is not None:
            name = model.partition("@")[0]
            if name not in self.models:
                message = f"the token of {self.name} is not good for the model {name!r}"
                raise HttpRefused(403, HttpCode.FORBIDDEN, message)


ANYBODY = Principal("anybody", None, frozenset(Right))
"""Everybody who is answered where there are no tokens."""


class Access:
    """Decides who sends a request."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Read the file of tokens, if there is one.

        Raises:
            SettingsError: it cannot be read, or a line is not what it should be.
        """
        self._file = Path(settings.gateway_tokens) if settings.gateway_tokens else None
        self._answers_all = bool(settings.gateway_allow_no_tokens)
        self._tokens: list[tuple[bytes, Principal]] = []
        self._stamp: tuple[int, ...] = ()
        self._checked_at = time.monotonic()
        if self._file is not None:
            try:
                self._stamp = _stamp(self._file)
                self._tokens = read_tokens(self._file)
            except (OSError, UnicodeDecodeError) as error:
                expected = f"a file of tokens that can be read: {error}"
                raise SettingsError("SCORELINE_GATEWAY_TOKENS", str(self._file), expected) from None

    def principal(self, scope: Scope, token: bytes | None) -> Principal:
        """Whom the token of a request belongs to; None if the request has no token.

        Raises:
            HttpRefused: the token is nobody's; or there are no tokens, and the request does not come from this machine.
        """
        if self._file is None:
            if not self._answers_all:
                _check_local(scope)
            return ANYBODY
        self._follow(self._file)
        owner = None
        if token is not None:
            digest = hashlib.sha256(token).digest()
            # All of them: how long it takes says nothing about how near a guess was.
            for token_digest, principal in self._tokens:
                if hmac.compare_digest(token_digest, digest):
                    owner = principal
        if owner is None:
            reason = "there is no token" if token is None else "the token is not known"
            message = f"{reason}; a request needs the header `Authorization: Bearer TOKEN`"
            headers = {"WWW-Authenticate": "Bearer"}
            raise HttpRefused(401, HttpCode.UNAUTHORIZED, message, headers=headers)
        return owner

    def _follow(self, file: Path) -> None:
        """Read the tokens again if their file has changed; a file that cannot be read leaves them as they were."""
        now = time.monotonic()
        if now - self._checked_at < CHECK_S:
            return
        self._checked_at = now
        try:
            stamp = _stamp(file)
            if stamp != self._stamp:
                self._stamp = stamp
                self._tokens = read_tokens(file)
                logger.info("tokens_read count=%d", len(self._tokens))
        except (OSError, SettingsError, UnicodeDecodeError) as error:
            logger.error("tokens_unreadable: %s: the ones before stay valid", error)  # noqa: TRY400


def _stamp(file: Path) -> tuple[int, ...]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read_tokens(file: Path) -> list[tuple[bytes, Principal]]:
    """The sha256 of each token of a file, and whom it belongs to.

    Raises:
        SettingsError: a line is not what it should be; the message has its number.
    """
    tokens = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        hexadecimal, name, models, rights = fields if len(fields) == 4 else ("", "", "", "")
        names = None if models == "*" else frozenset(models.split(","))
        all_rights = set(Right)
        token_rights = all_rights if rights == "*" else set(rights.split(","))
        if (
            not _HASH.fullmatch(hexadecimal)
            or not token_rights <= all_rights
            or not all(map(is_name, names or ()))
        ):
            expected = (
                "the sha256 of a token in small hexadecimal digits, a name, models (names joined by commas, or *) "
                f"and rights ({', '.join(all_rights)}, or *), with blanks between"
            )
            raise SettingsError(f"{file}, line {number}", "not a token's", expected)
        principal = Principal(name, names, frozenset(map(Right, token_rights)))
        tokens.append((bytes.fromhex(hexadecimal), principal))
    return tokens


def _check_local(scope: Scope) -> None:
    """Without tokens, only programs of this machine are answered, and no web page that its browser shows."""
    headers = dict(scope["headers"])
    server = (scope.get("server") or ("localhost", None))[0]
    host, site = headers.get(b"host", b"localhost"), headers.get(b"sec-fetch-site", b"none")
    if not _is_local(host, site, server):
        message = (
            "without tokens only this machine is answered, under a name such as localhost: "
            "the operator gives tokens by SCORELINE_GATEWAY_TOKENS"
        )
        raise HttpRefused(403, HttpCode.FORBIDDEN, message)


@lru_cache(maxsize=64)  # callers send the same few
def _is_local(host: bytes, site: bytes, server: str) -> bool:
    # A page of another site reaches this machine under a host name of its own, or has a Sec-Fetch-Site that tells.
    is_own = is_loopback(re.sub(r":\d+$", "", host.decode("latin-1")).strip("[]")) and site in (
        b"none",
        b"same-origin",
    )
    return is_own and (server.startswith("/") or is_loopback(server))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and only reached from it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def header(scope: Scope, name: bytes) -> bytes | None:
    """A header by its name in small letters, the first one if it is there several times."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for key, value in headers:
        if key == name:
            return value
    return None


def bearer_token(scope: Scope) -> bytes | None:
    """The token of the header Authorization, if there is one."""
    scheme, _, token = (header(scope, b"authorization") or b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def principal_of(request: Request) -> Principal:
    """Who sends this request."""
    principal: Principal = request.scope["principal"]
    return principal


def route(
    path: str,
    endpoint: Callable[[Request], Awaitable[Response]],
    *,
    right: Right | None,
    methods: Sequence[str] = ("GET",),
) -> Route:
    """A route whose callers need a right, for the model that `{model}` in the path names; None: nobody needs one."""
    return Route(path, _Checked(endpoint, right), methods=list(methods))


class _Checked:
    """Checks who sends a request before its endpoint answers it.

    An ASGI app, which Starlette calls as it is; a function it would wrap into a handler of exceptions for each
    request, which the gateway has in one place.
    """

    def __init__(
        self, endpoint: Callable[[Request], Awaitable[Response]], right: Right | None
    ) -> None:
        self._endpoint = endpoint
        self._right = right

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if self._right is not None:
            gateway = request.app
            principal = gateway.access.principal(scope, bearer_token(scope))
            principal.check(self._right, request.path_params.get("model"))
            scope["principal"] = principal
            if gateway.in_flight > gateway.settings.gateway_in_flight:
                message = "the gateway answers as many requests as it may at a time"
                raise HttpRefused(503, HttpCode.BUSY, message, headers={"Retry-After": "1"})
        response = await self._endpoint(request)
        await response(scope, receive, send)
