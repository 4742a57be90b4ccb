"""Hides folders from a process that runs somebody else's code, as far as the kernel does that without root.

On Linux the process gets namespaces of its own for users and mounts, and an empty, read-only file system in the place of
each folder. It gives up all capabilities, so it cannot take that away again; nor can it look into its parent, which
is of another namespace now. Containers and hardened machines may allow no such namespaces: then an audit hook alone
refuses the files, which code of this interpreter does not get around, and native code and other programs do.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_PRIVATE = 0x44000
"""MS_REC | MS_PRIVATE."""
_READ_ONLY = 0x000F
"""Without setuid, devices and programs, too."""
_DROP_FROM_BOUNDS, _NO_NEW_PRIVILEGES, _LAST_CAPABILITY = 24, 38, 63


def hide(folders: Sequence[str]) -> bool:
    """Make folders look empty to this process and those that it will start; returns False where the kernel refuses that.

    The process must have one thread, and stays in the new namespaces.
    """
    if sys.platform != "linux" or not folders:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_USER | _NEW_MOUNTS) != 0:
        return False
    try:
        # The same user as before, without which files would belong to nobody.
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    except OSError:
        return False
    is_hidden = libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None) == 0
    for folder in folders:
        options = (b"tmpfs", ctypes.c_ulong(_READ_ONLY), b"size=4k")
        is_hidden &= libc.mount(b"tmpfs", os.fsencode(folder), *options) == 0
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_DROP_FROM_BOUNDS, capability, 0, 0, 0)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    return bool(libc.capset(header, nothing) == 0 and is_hidden)
