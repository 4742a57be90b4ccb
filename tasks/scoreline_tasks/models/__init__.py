"""Which version answers to a reference, and how a process moves to a new one."""
