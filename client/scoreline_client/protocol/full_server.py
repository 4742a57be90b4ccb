"""What workers write to a server whose memory is full: only their work makes room there.

A full server refuses all that could take memory. For new requests that is right. A worker's own few bytes
(its report, a hint, the count of an attempt) must get through, or nobody takes out what fills the server.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from redis.exceptions import OutOfMemoryError

_SCRIPT = resources.files("scoreline_client.protocol").joinpath("while_full.lua").read_text()


def write_while_full(redis: Any, command: str, key: str, *arguments: Any) -> Any:
    """Send a command with one key to a blocking Redis client, and once more as a script if memory is full.

    Returns the command's reply.

    Raises:
        RedisError: the server cannot be reached, or refuses the command for another reason.
    """
    try:
        return redis.execute_command(*command.split(), key, *arguments)
    except OutOfMemoryError:
        return redis.register_script(_SCRIPT)(keys=[key], args=[command, *arguments])
