"""redis-py's asyncio client, with a shorter way for a command to the server and back.

What a command costs there beside itself (two turns through a pool, a task for its timeout, measurements,
packing in Python) is half of what a lone request costs a caller. Everything else is as redis-py has it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio
from redis.connection import HiredisRespSerializer
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_packer = HiredisRespSerializer()


class DirectRedis(redis.asyncio.Redis):
    """Keeps its connections, and never sends a command twice."""

    timeout_s = 15.0
    """Seconds within which the reply to any command comes, or the connection is taken for dead."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._free: list[Any] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command over a connection that is free, and read its reply."""
        connection = await self._take()
        try:
            async with asyncio.timeout(self.timeout_s):
                await connection.send_packed_command(_packer.pack(*args))
                return await self.parse_response(connection, args[0], **options)
        except ResponseError:
            raise
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            raise RedisTimeoutError(f"no reply within {self.timeout_s:g} s") from error
        # A cancellation, for one: the reply that is still to come is nobody else's.
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._free.append(connection)

    async def _take(self) -> Any:
        if not self._free:
            connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            # The time of a whole command is limited, which takes one timer, and not each step.
            connection.socket_timeout = None
            return connection
        connection = self._free.pop()
        # Closed by the server meanwhile: sending connects anew.
        if connection.is_connected and await connection.can_read():
            await connection.disconnect(nowait=True)
        return connection
