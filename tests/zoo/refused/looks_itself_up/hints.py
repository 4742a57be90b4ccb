from __future__ import annotations

import typing


class Kind:
    factor = 2


class Options:
    kind: Kind


def checked(frame):
    return frame * typing.get_type_hints(Options)["kind"].factor
