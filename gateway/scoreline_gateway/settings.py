"""The settings of a gateway: those of the client and its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scoreline_client.settings import ClientSettings, at_least


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(ClientSettings):
    """What an operator may set. Each field is read from `SCORELINE_<NAME>`."""

    names_others: ClassVar[bool] = False
    """A caller may have the right to some models only: each is told of its own, see Fleet.words_for_unknown."""
    gateway_host: str = "127.0.0.1"
    """The address that `scoreline gateway` listens on; one that is not this machine's own needs `gateway_tokens`."""
    gateway_port: int = at_least(0, 8080)
    """The port that `scoreline gateway` listens on; 0 for one that is free."""
    gateway_model: str = ""
    """The model that `/invocations` answers for: a name, name@alias or name@version."""
    gateway_tokens: str = ""
    """A file of the tokens that callers must send; without one, only callers of this machine are answered."""
    gateway_allow_no_tokens: int = at_least(0, 0)
    """1 answers callers of other machines without a token, too: for a network that only your own programs reach."""
    gateway_timeout_s: float = at_least(0.001, 30.0)
    """Seconds that a caller who names no time waits for an answer, and the most that one may name."""
    gateway_body_s: float = at_least(0.1, 60.0)
    """Seconds that the body of a request may take to arrive."""
    gateway_files: str = "~/.local/state/scoreline/gateway"
    """Directory of the files that callers send to be scored, and of their results."""
    gateway_files_mb: int = at_least(1, 10_240)
    """MiB that these files may have together; the oldest results make room for new files."""
    gateway_files_s: int = at_least(60, 86_400)
    """Seconds that a file's result can be fetched."""
    gateway_in_flight: int = at_least(1, 2048)
    """Requests that a process answers at a time; more are refused with status 503."""
    gateway_buffer_mb: int = at_least(1, 512)
    """MiB of bodies that a process holds at a time; more are refused with status 503."""
