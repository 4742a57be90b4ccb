"""A private place for the modules that came with an artifact: nobody else in the process sees them.

Two versions whose modules have the same names and different code live side by side, `sys.modules`
holds neither, and imports between the modules of a version stay inside it. A module's name is
`<model>@<version>:<its name in the training project>`, so that classes of two versions can be told
apart in a traceback and nothing takes them for installed ones.

How: a module's globals hold a `__builtins__` of its own whose `__import__` looks here first. The two
other ways in which code names modules, `importlib` and `importlib.resources`, are handed out as
look-alikes that look here first, too.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.resources
import importlib.util
import linecache
import os
import pkgutil
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType
from typing import Any

from scoreline_artifacts.dependencies import absolute
from scoreline_artifacts.loading.resources import Folder, Reader

_RESOURCE_FUNCTIONS = (
    "contents", "files", "is_resource", "open_binary", "open_text", "path", "read_binary", "read_text",
)  # fmt: skip
_RESOURCE_MODULES = (
    "importlib.resources",
    "importlib.resources._common",
    "importlib.resources._functional",
    "importlib.resources._legacy",
)
"""Where these functions are, in one version of Python or another."""
_EXECUTING = threading.RLock()
"""One thread at a time executes private modules; while it does, `sys.modules` shows them."""
os.register_at_fork(after_in_child=_EXECUTING._at_fork_reinit)  # type: ignore[attr-defined]


class Namespace:
    """The modules of one version."""

    def __init__(self, label: str, modules: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        """`modules` maps a module's name to its file, `files` all files to their content."""
        # A dot would look like a package's.
        self._label = label.replace(".", "_")
        self._modules = dict(modules)
        self._files = dict(files)
        # Also the packages without a file of their own above the modules that travel.
        self._packages = {
            name.rsplit(".", up)[0] for name in modules for up in range(1, name.count(".") + 1)
        }
        self._loaded: dict[str, ModuleType] = {}
        self._stand_ins: dict[str, ModuleType] = {}
        self._traced: dict[str, tuple[Any, ...]] = {}
        """What `linecache` has of this version, by file."""
        # Such a version may have been let go long before its process ends.
        weakref.finalize(self, _forget, self._traced).atexit = False
        self.missing: set[str] = set()
        """Modules and data files that code asked for and that did not come with the artifact."""
        self.builtins = {**vars(builtins), "__import__": self._import}
        """What private code has for `__builtins__`."""

    def owns(self, name: str) -> bool:
        """Whether a module of this name, or something below it, came with the artifact."""
        return name in self._modules or name in self._packages

    def import_module(self, name: str) -> ModuleType:
        """Import a private module, or else an installed one.

        Raises:
            ModuleNotFoundError: there is neither.
        """
        name = self._known_as(name)
        if name in _STAND_INS:
            return self._stand_in(name)
        if not self.owns(name):
            return self._import_installed(name)
        # Others wait for a module that is being executed; the one who executes it may see half of it,
        # as Python has it where modules import each other.
        with _EXECUTING:
            return self._import_own(name)

    def _import_own(self, name: str) -> ModuleType:
        parent, _, last = name.rpartition(".")
        above = self._import_own(parent) if parent else None
        module = self._loaded.get(name)
        if module is None:
            module = self._execute(name)
            if above is not None:
                setattr(above, last, module)
        return module

    def create_function(
        self, code: CodeType, variables: dict[str, Any] | None, *arguments: Any
    ) -> FunctionType:
        """What dill calls for a function that it has by value: let it import from here as well."""
        from dill import _dill

        variables = {} if variables is None else variables
        # Before the function is made: it keeps the builtins that it finds then.
        variables.setdefault("__builtins__", self.builtins)
        made: FunctionType = _dill._create_function(code, variables, *arguments)
        return made

    def find(self, module: str, name: str) -> Any:
        """What a pickle means by something of a module, or None if it is for others to find."""
        replaced = _REPLACED.get((module, name))
        if replaced is not None:
            return replaced(self)
        if not self.owns(module):
            return None
        found: Any = self.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found

    def _known_as(self, name: str) -> str:
        """A module's name in the training project; private code may know it by its private one."""
        return name.removeprefix(f"{self._label}:")

    def _import(
        self,
        name: str,
        variables: Mapping[str, Any] | None = None,
        _local: object = None,
        wanted: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an import statement of private code does."""
        full: str | None = self._known_as(name)
        if level:
            full = absolute(name, level, self._package(variables or {}))
            if full is None:
                raise ImportError("attempted relative import beyond the top-level package")
        assert full is not None  # noqa: S101 - a name without a level is absolute
        module = self.import_module(full)
        if not wanted:
            return module if level else self.import_module(full.partition(".")[0])
        for one in self._listed(module, wanted):
            if not hasattr(module, one) and self.owns(full):
                self._import_below(full, one)
        return module

    def _import_below(self, package: str, name: str) -> None:
        try:
            self.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            # Neither a module nor a variable: the import statement says so in its own words.
            if error.name != f"{package}.{name}":
                raise

    def _listed(self, module: ModuleType, wanted: Sequence[str]) -> Sequence[str]:
        return getattr(module, "__all__", ()) if "*" in wanted else wanted

    def _package(self, variables: Mapping[str, Any]) -> str:
        package = variables.get("__package__")
        if package is not None:
            return self._known_as(package)
        # A function by value knows the name of its module and nothing else of it.
        name = self._known_as(variables.get("__name__", ""))
        return name if self._is_package(name) else name.rpartition(".")[0]

    def _is_package(self, name: str) -> bool:
        return name in self._packages or self._modules.get(name, "").endswith("/__init__.py")

    def _import_installed(self, name: str) -> ModuleType:
        parent, _, last = name.rpartition(".")
        if parent in self._modules:
            # Of a package with a file of its own, all that there is came with the artifact.
            self.missing.add(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None:
                self.missing.add(error.name)
                # Where the package above it is not there, it is the module that is wanted.
                self.missing.update({name} if name.startswith(f"{error.name}.") else ())
            raise
        # A package may be in parts, some of them installed and some private.
        if parent in self._packages:
            setattr(self.import_module(parent), last, module)
        return module

    def _execute(self, name: str) -> ModuleType:
        file = self._modules.get(name)
        loader = Loader(self, name, file)
        spec = ModuleSpec(
            f"{self._label}:{name}",
            loader,
            origin=f"{self._label}/{file}" if file else None,
            is_package=self._is_package(name),
        )
        module = _PrivateModule(spec, self, name)
        self._loaded[name] = module
        code = loader.get_code(name)
        if code is None:
            return module
        # Dataclasses and typing look for a class's module in sys.modules while it is being made.
        # Nobody else can mean this name, and it is gone when the module is complete.
        sys.modules[spec.name] = module
        try:
            exec(code, module.__dict__)  # noqa: S102 - verified with the rest of the artifact
        except BaseException:
            self._loaded.pop(name, None)
            raise
        finally:
            sys.modules.pop(spec.name, None)
        return module

    def source(self, file: str) -> bytes:
        """The content of a module's file."""
        return self._files[file]

    def folder(self, package: str) -> Folder:
        """The data files of a package."""
        at = f"sources/{package.replace('.', '/')}/"
        held = {name.removeprefix(at): name for name in self._files if name.startswith(at)}
        return Folder(
            package.rpartition(".")[2],
            {relative: self._files[name] for relative, name in held.items()},
            lambda path: self.missing.add(f"{at}{path}"),
        )

    def _stand_in(self, name: str) -> ModuleType:
        if name not in self._stand_ins:
            self._stand_ins[name] = _StandIn(importlib.import_module(name), _STAND_INS[name](self))
        return self._stand_ins[name]


def _forget(traced: Mapping[str, tuple[Any, ...]]) -> None:
    """Take the sources of a version out of `linecache`, but for those that another one has replaced."""
    for file, entry in traced.items():
        if linecache.cache.get(file) is entry:
            linecache.cache.pop(file, None)


class Loader(importlib.abc.InspectLoader):
    """What a private module has for `__loader__`: its source and its data, for those who ask."""

    def __init__(self, namespace: Namespace, name: str, file: str | None) -> None:
        self._namespace = namespace
        self._name = name
        self._file = file

    def get_source(self, fullname: str) -> str | None:  # noqa: ARG002 - importlib's signature
        """The module's source, or None for a package that has none."""
        if self._file is None:
            return None
        return importlib.util.decode_source(self._namespace.source(self._file))

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002 - importlib's signature
        """The module, compiled."""
        source = self.get_source(self._name)
        if source is None or self._file is None:
            return None
        file = f"{self._namespace._label}/{self._file}"
        # For tracebacks and inspect.getsource: there is no such file on disk.
        entry = (len(source), None, source.splitlines(keepends=True), file)
        linecache.cache[file] = self._namespace._traced[file] = entry
        return compile(self._namespace.source(self._file), file, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002 - importlib's signature
        """Whether there are modules below it."""
        return self._namespace._is_package(self._name)

    def get_resource_reader(self, fullname: str) -> Reader:  # noqa: ARG002 - importlib's signature
        """For `importlib.resources.files()`."""
        return Reader(self._namespace.folder(self._name))


class _PrivateModule(ModuleType):
    """A module that finds those below it by itself, as if somebody had imported them before."""

    def __init__(self, spec: ModuleSpec, namespace: Namespace, known_as: str) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__loader__ = spec.loader
        self.__package__ = spec.parent
        if spec.origin is not None:
            self.__file__ = spec.origin
        if spec.submodule_search_locations is not None:
            self.__path__ = []
        self.__dict__["__builtins__"] = namespace.builtins
        self._below = (namespace, known_as)

    def __getattr__(self, name: str) -> Any:
        namespace, known_as = self.__dict__["_below"]
        if not name.startswith("__") and namespace.owns(f"{known_as}.{name}"):
            return namespace.import_module(f"{known_as}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _StandIn(ModuleType):
    """A module of the standard library of which some functions look into a namespace first."""

    def __init__(self, real: ModuleType, changed: Mapping[str, Any]) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__.update(changed)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _importlib(namespace: Namespace) -> dict[str, Any]:
    return {
        "import_module": _importer(namespace),
        "resources": namespace._stand_in("importlib.resources"),
    }


def _importer(namespace: Namespace) -> Callable[..., ModuleType]:
    def import_module(name: str, package: str | None = None) -> ModuleType:
        """Import a module, one of the model's own first."""
        bare = name.lstrip(".")
        full = absolute(bare, len(name) - len(bare), namespace._known_as(package or ""))
        if full is None:
            raise TypeError(f"a relative import of {name!r} needs the package that it starts from")
        return namespace.import_module(full)

    return import_module


def _resources(namespace: Namespace) -> dict[str, Any]:
    """The functions of importlib.resources that take a package first."""
    names = [name for name in _RESOURCE_FUNCTIONS if hasattr(importlib.resources, name)]
    return {name: _by_name(namespace, getattr(importlib.resources, name)) for name in names}


def _by_name(namespace: Namespace, real: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, for a private package given by name."""

    def call(*arguments: Any, **options: Any) -> Any:
        for name in ("anchor", "package"):
            if name in options:
                arguments = (options.pop(name), *arguments)
        if not arguments:
            arguments = (sys._getframe(1).f_globals["__name__"],)
        package, *rest = arguments
        if isinstance(package, str) and namespace.owns(namespace._known_as(package)):
            package = namespace.import_module(package)
        return real(package, *rest, **options)

    return call


def _pkgutil(namespace: Namespace) -> dict[str, Any]:
    def get_data(package: str, resource: str) -> bytes | None:
        """The content of a data file of a package."""
        name = namespace._known_as(package)
        if not namespace.owns(name):
            return pkgutil.get_data(package, resource)
        # Files beside a module belong to the package that it is in.
        package = name if namespace._is_package(name) else name.rpartition(".")[0]
        return namespace.folder(package).joinpath(resource).read_bytes()

    return {"get_data": get_data}


_STAND_INS: dict[str, Callable[[Namespace], dict[str, Any]]] = {
    "importlib": _importlib,
    "importlib.resources": _resources,
    "pkgutil": _pkgutil,
}


def _of(module: str, name: str) -> Callable[[Namespace], Any]:
    return lambda namespace: getattr(namespace._stand_in(module), name)


_REPLACED: dict[tuple[str, str], Callable[[Namespace], Any]] = {
    ("dill._dill", "_create_function"): lambda namespace: namespace.create_function,
    ("importlib", "import_module"): _of("importlib", "import_module"),
    ("pkgutil", "get_data"): _of("pkgutil", "get_data"),
    **{
        (module, name): _of("importlib.resources", name)
        for module in _RESOURCE_MODULES
        for name in _RESOURCE_FUNCTIONS
    },
}
"""What a pickle may refer to directly, and what private code gets in its place."""
