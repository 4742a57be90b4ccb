"""Where code comes from: from the standard library, an installed distribution, or this project.

What is installed stays a reference, and its version is recorded; what is this project's own travels.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterable
from functools import cached_property
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import cast

OURS = frozenset(
    {"scoreline_artifacts", "scoreline_client", "scoreline_tasks", "scoreline_training"}
)
"""Our own packages: one distribution, so every worker has them, wherever they are installed from."""
DISTRIBUTION = "scoreline"
_SITE = frozenset({"site-packages", "dist-packages"})


class Origins:
    """Tells local modules from installed ones; as this process is when it is made."""

    def __init__(self, carried: Iterable[str] = ()) -> None:
        """`carried` are packages that count as local although they are installed."""
        self._carried = frozenset(carried)
        self._local_tops: dict[str, bool] = {}
        self._standard = Path(sysconfig.get_paths()["stdlib"]).resolve()

    def is_local(self, module: str) -> bool:
        """Whether a module is this project's own, and can be found."""
        if self.is_carried(module):
            return spec_of(module) is not None
        top = module.partition(".")[0]
        if top == "__main__" or top in OURS:
            return False
        # Most names are those of installed modules, and one look tells. A name of the standard library
        # tells nothing: `code.py` or `profile.py` may be the project's own.
        if not self._local_tops.setdefault(top, self._may_be_local(top)):
            return False
        spec = spec_of(module)
        return spec is not None and self._is_here(spec)

    def is_carried(self, module: str) -> bool:
        """Whether somebody asked for this module to travel."""
        names = module.split(".")
        return any(".".join(names[:end]) in self._carried for end in range(1, len(names) + 1))

    def distribution_of(self, module: str) -> str | None:
        """The installed distribution that a module comes from, or None."""
        top = module.partition(".")[0]
        if top in OURS:
            return DISTRIBUTION
        return next(iter(self._installed.get(top, ())), None)

    def _may_be_local(self, top: str) -> bool:
        spec = spec_of(top)
        if spec is None:
            return False
        if spec.origin is None and spec.submodule_search_locations is not None:
            return True  # a package in parts, some of which may be local
        # `pip install --target` puts distributions elsewhere than where Python has its own.
        return self._is_here(spec) and not any(map(_is_installed, self._installed.get(top, ())))

    def _is_here(self, spec: ModuleSpec) -> bool:
        places = [Path(place) for place in _places(spec)]
        return bool(places) and not any(map(self._is_installed_under, places))

    def _is_installed_under(self, place: Path) -> bool:
        return bool(_SITE & set(place.parts)) or place.resolve().is_relative_to(self._standard)

    @cached_property
    def _installed(self) -> dict[str, list[str]]:
        # Reads the file lists of all distributions, so once is enough.
        return {top: sorted(set(names)) for top, names in metadata.packages_distributions().items()}


def spec_of(module: str) -> ModuleSpec | None:
    """How a module would be found; nothing is imported for it, not even its parents."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if spec is not None:
        return cast(ModuleSpec, spec)
    parent, _, _ = module.rpartition(".")
    path = None
    if parent:
        above = spec_of(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        found = find(module, path) if find else None
        if found is not None:
            return cast(ModuleSpec, found)
    return None


def _places(spec: ModuleSpec) -> list[str]:
    if spec.submodule_search_locations is not None:
        return list(spec.submodule_search_locations)
    return [spec.origin] if spec.has_location and spec.origin else []


def _is_installed(distribution: str) -> bool:
    """Whether a distribution was installed; an editable one, or a build's egg-info, is a project's."""
    return any(
        not _is_editable(found) and _has_place_of_its_own(found)
        for found in metadata.distributions(name=distribution)
    )


def _is_editable(found: metadata.Distribution) -> bool:
    text = found.read_text("direct_url.json")
    return bool(text and json.loads(text).get("dir_info", {}).get("editable"))


def _has_place_of_its_own(found: metadata.Distribution) -> bool:
    place = Path(str(getattr(found, "_path", "")))
    return place.suffix == ".dist-info" or bool(_SITE & set(place.parts))
