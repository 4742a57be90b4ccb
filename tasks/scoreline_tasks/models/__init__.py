"""Which version answers to a reference, and how a process switches to a new one."""
