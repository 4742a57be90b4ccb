"""The processes of one worker: the pool, its drain, its watchdog and heartbeat."""
