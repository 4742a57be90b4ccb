"""The processes of one worker: the pool, its permanent drain, watchdog and heartbeat."""
