"""Which modules code imports, and whether a module is the project's own or comes from an installed distribution."""

from __future__ import annotations

import ast
import dis
import json
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType
from typing import cast

SCORELINE_PACKAGES = frozenset(
    {"scoreline_artifacts", "scoreline_client", "scoreline_tasks", "scoreline_training"}
)
"""Scoreline's own packages: one distribution that every worker has, wherever it is installed."""
SCORELINE = "scoreline"
_SITE = frozenset({"site-packages", "dist-packages"})
_IMPORTERS = frozenset({"import_module", "__import__"})
_CONSTANT_LOADS = frozenset({"LOAD_CONST", "LOAD_SMALL_INT"})
_NEVER_ON_IMPORT = re.compile(
    r"([\w.]+\.)?TYPE_CHECKING|__name__ == '__main__'|'__main__' == __name__"
)
_DOTTED_NAME = re.compile(r"\.*[^\W\d]\w*(\.[^\W\d]\w*)*")


class ModuleOrigins:
    """Tells modules of the project from installed ones, as this process finds them.

    A pickle refers to installed modules by name, and the manifest records their distributions' versions; the
    sources of the project's own modules travel with the version.
    """

    def __init__(self, carried: Iterable[str] = ()) -> None:
        """`carried` are packages that count as the project's own although they are installed."""
        self._carried = frozenset(carried)
        self._local_tops: dict[str, bool] = {}
        self._standard_library = Path(sysconfig.get_paths()["stdlib"]).resolve()

    def is_local(self, module: str) -> bool:
        """Whether a module exists and is the project's own."""
        names = module.split(".")
        if any(".".join(names[:end]) in self._carried for end in range(1, len(names) + 1)):
            return spec_of(module) is not None
        top = names[0]
        if top == "__main__" or top in SCORELINE_PACKAGES:
            return False
        # The top-level package alone tells that a module is installed, as most are. A name that the standard
        # library has too tells nothing: `code.py` or `profile.py` may be the project's own.
        if top not in self._local_tops:
            spec = spec_of(top)
            # Some parts of a namespace package may be local. `pip install --target` puts distributions
            # into folders that are not called site-packages.
            self._local_tops[top] = spec is not None and (
                (spec.origin is None and spec.submodule_search_locations is not None)
                or (
                    self._is_outside_of_installations(spec)
                    and not any(map(is_installed, self._distributions.get(top, ())))
                )
            )
        if not self._local_tops[top]:
            return False
        spec = spec_of(module)
        return spec is not None and self._is_outside_of_installations(spec)

    def distribution_of(self, module: str) -> str | None:
        """The installed distribution that a module comes from, or None."""
        top = module.partition(".")[0]
        if top in SCORELINE_PACKAGES:
            return SCORELINE
        return next(iter(self._distributions.get(top, ())), None)

    def _is_outside_of_installations(self, spec: ModuleSpec) -> bool:
        if spec.submodule_search_locations is not None:
            paths = [Path(folder) for folder in spec.submodule_search_locations]
        else:
            paths = [Path(spec.origin)] if spec.has_location and spec.origin else []
        return bool(paths) and not any(
            _SITE & set(path.parts) or path.resolve().is_relative_to(self._standard_library)
            for path in paths
        )

    @cached_property
    def _distributions(self) -> dict[str, list[str]]:
        # An installation while this process runs changes the time of its folder.
        return _distributions_of(tuple((entry, _modified_ns(entry)) for entry in sys.path))


@lru_cache(maxsize=1)
def _distributions_of(path: tuple[tuple[str, int], ...]) -> dict[str, list[str]]:  # noqa: ARG001 - what it depends on
    # Reads the file lists of all distributions: a quarter of a second.
    return {top: sorted(set(names)) for top, names in metadata.packages_distributions().items()}


def _modified_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def is_installed(distribution: str) -> bool:
    """Whether a distribution was installed; an editable one, or a build's egg-info, belongs to a project."""
    for candidate in metadata.distributions(name=distribution):
        direct_url = candidate.read_text("direct_url.json")
        is_editable = direct_url and json.loads(direct_url).get("dir_info", {}).get("editable")
        path = _folder_of(candidate)
        if not is_editable and (path.suffix == ".dist-info" or _SITE & set(path.parts)):
            return True
    return False


def metadata_file(distribution: str) -> Path | None:
    """The file with the name and version of a distribution that belongs to the project, or None."""
    if is_installed(distribution):
        return None
    folders = map(_folder_of, metadata.distributions(name=distribution))
    files = (folder / name for folder in folders for name in ("METADATA", "PKG-INFO"))
    return next((file for file in files if file.is_file()), None)


def _folder_of(distribution: metadata.Distribution) -> Path:
    return Path(str(getattr(distribution, "_path", "")))


def spec_of(module: str) -> ModuleSpec | None:
    """How a module would be imported; imports nothing, not even the packages above it."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if spec is not None:
        return cast(ModuleSpec, spec)
    parent, _, _ = module.rpartition(".")
    path = None
    if parent:
        parent_spec = spec_of(parent)
        if parent_spec is None or parent_spec.submodule_search_locations is None:
            return None
        path = list(parent_spec.submodule_search_locations)
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        try:
            spec = find_spec(module, path) if find_spec else None
        except KeyError:  # a folder without a file of its own, below a package that is not imported
            continue
        if spec is not None:
            return cast(ModuleSpec, spec)
    return None


def imports_of_source(source: bytes, module: str, is_package: bool) -> set[str]:
    """Absolute names of all modules that a module's source may import, at its top level or in functions.

    Names that may be either a module or an attribute of one (`from a import b`, `a.b` after
    `import a`) are included: the caller knows which of them exist as modules. Code under
    `if TYPE_CHECKING:` or `if __name__ == "__main__":` never runs on import and is left out.

    Raises:
        SyntaxError: the source is not valid Python.
    """
    collector = _ImportCollector(module if is_package else module.rpartition(".")[0])
    collector.visit(ast.parse(source))
    return collector.names | collector.attributes()


def imports_of_code(code: CodeType, package: str) -> set[str]:
    """Absolute names of all modules that a code object may import, for functions without a source file."""
    imported: set[str] = set()
    constants: list[object] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in _CONSTANT_LOADS:
            constants.append(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            # The compiler loads the level and the names right before every import.
            level, names = constants[-2:]
            imported |= set(_import_targets(instruction.argval, cast(int, level), names, package))
    calls_importer = bool(_IMPORTERS & {*code.co_names})
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            imported |= imports_of_code(constant, package)
        elif calls_importer and isinstance(constant, str) and _DOTTED_NAME.fullmatch(constant):
            imported.add(constant)
    return imported


def absolute(name: str, level: int, package: str) -> str | None:
    """The absolute name of a relative import, or None beyond the top-level package."""
    if level == 0:
        return name
    names = package.split(".") if package else []
    if level > len(names):
        return None
    base = ".".join(names[: len(names) - level + 1])
    return f"{base}.{name}" if name else base


def _import_targets(name: str, level: int, names: object, package: str) -> Iterator[str]:
    """The module of an import statement, and each imported name as if it were a module inside it."""
    base = absolute(name, level, package)
    if base is not None:
        yield base
        yield from (
            f"{base}.{member}" for member in (names if isinstance(names, tuple | list) else ())
        )


class _ImportCollector(ast.NodeVisitor):
    """Collects imports, and attributes of names that were imported."""

    def __init__(self, package: str) -> None:
        self.names: set[str] = set()
        self._package = package
        self._bound: dict[str, str] = {}
        self._dotted: set[tuple[str, str]] = set()

    def attributes(self) -> set[str]:
        """`a.b` for each use of `x.b` after `import a as x`: b may be a module that another module imported."""
        return {f"{self._bound[name]}.{rest}" for name, rest in self._dotted if name in self._bound}

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.names.add(alias.name)
            top = alias.name.partition(".")[0]
            self._bound[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = [alias.name for alias in node.names]
        self.names |= set(_import_targets(node.module or "", node.level, names, self._package))
        base = absolute(node.module or "", node.level, self._package)
        for alias in node.names:
            self._bound[alias.asname or alias.name] = f"{base}.{alias.name}"

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        argument = node.args[0] if called in _IMPORTERS and node.args else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            name = argument.value.lstrip(".")
            full = absolute(name, len(argument.value) - len(name), self._package)
            if full:
                self.names.add(full)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            names.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            for end in range(1, len(names) + 1):
                self._dotted.add((value.id, ".".join(names[:end])))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if _NEVER_ON_IMPORT.fullmatch(ast.unparse(node.test)):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)
