"""Private modules: imports the modules that travelled with a version so that nothing else in the process sees them.

Two versions whose modules have the same names and different code live side by side, `sys.modules` holds
neither, and imports between the modules of a version stay inside it. A module is called
`<model>@<version>:<its name in the training project>`, so that a traceback tells the classes of two versions
apart and nothing mistakes them for installed ones.

Code is compiled from the bytes that were verified, never from a file on disk. A module's globals hold a
`__builtins__` of its own whose `__import__` looks in the namespace first. The two other ways in which code
names modules, `importlib` and `importlib.resources`, and `importlib.metadata`, which names the project, are replaced by
proxies that look there first, too.
"""

from __future__ import annotations

import builtins
import errno
import importlib
import importlib.abc
import importlib.metadata
import importlib.resources
import importlib.util
import linecache
import os
import pkgutil
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType
from typing import Any

from scoreline_artifacts.dependencies import absolute, is_installed
from scoreline_artifacts.loading.process_settings import ProcessSettings
from scoreline_artifacts.loading.resources import Folder, Reader
from scoreline_artifacts.manifest import DIST_INFO, SOURCES

_RESOURCE_FUNCTIONS = (
    "contents", "files", "is_resource", "open_binary", "open_text", "path", "read_binary", "read_text",
)  # fmt: skip
_RESOURCE_MODULES = (
    "importlib.resources",
    "importlib.resources._common",
    "importlib.resources._functional",
    "importlib.resources._legacy",
)
"""The modules that hold these functions, in one version of Python or another."""
_PROXIED_FUNCTIONS = {
    "importlib": ("import_module",),
    "importlib.metadata": ("distribution", "metadata", "version"),
    "pkgutil": ("get_data",),
}
"""Further functions that pickles may refer to, and whose proxies look in the namespace."""
_execution_locks: dict[int, threading.RLock] = {}
"""By process: in a fork, nobody would ever release a lock that another thread held at that moment."""


class Namespace:
    """The modules and data files of one version."""

    def __init__(
        self,
        label: str,
        modules: Mapping[str, str],
        files: Mapping[str, bytes],
        *,
        listed: Iterable[str] = (),
        settings: Iterable[str] | None = None,
    ) -> None:
        """`modules` maps a module's name to its file, `files` every file to its content.

        `listed` are files that the project has beside these: code sees them, and `missing` has what it opens.
        `settings` are those of the process that its modules change, as for ProcessSettings.
        """
        # A dot would look like a package's.
        self.label = label.replace(".", "_")
        self._modules = dict(modules)
        self._files = dict(files)
        self._listed = frozenset(listed).difference(files)
        # Including packages without a file of their own above the modules that travel.
        self._packages = {
            name.rsplit(".", up)[0] for name in modules for up in range(1, name.count(".") + 1)
        }
        self._loaded: dict[str, ModuleType] = {}
        self._proxies: dict[str, ModuleType] = {}
        self.missing: set[str] = set()
        """Modules and data files that code asked for and that did not travel with the version."""
        self.settings = ProcessSettings(settings)
        """What its modules have changed in the process."""
        self.builtins = {**vars(builtins), "__import__": self._import}
        """The `__builtins__` of private code."""
        self.linecache_entries: dict[str, tuple[Any, ...]] = {}
        """Entries of this version in `linecache`, by file; removed when the version is no longer in use."""
        # Not at exit: the process's memory goes anyway.
        weakref.finalize(self, _clear_linecache, self.linecache_entries).atexit = False

    def owns(self, name: str) -> bool:
        """Whether a module of this name, or one below it, travelled with the version."""
        return name in self._modules or name in self._packages

    def is_package(self, name: str) -> bool:
        """Whether there may be modules below a module."""
        return name in self._packages or self._modules.get(name, "").endswith("/__init__.py")

    def project_name(self, name: str) -> str:
        """A module's name in the training project; private code may know it by its private name."""
        return name.removeprefix(f"{self.label}:")

    def import_module(self, name: str) -> ModuleType:
        """Import a private module, or else an installed one.

        Raises:
            ModuleNotFoundError: there is neither.
        """
        name = self.project_name(name)
        if name in _PROXIED:
            return self.proxy(name)
        if self.owns(name):
            # One thread at a time executes private modules. Others wait for a complete module; the thread
            # that executes it may see half of it, as in Python where modules import each other.
            with _execution_locks.setdefault(os.getpid(), threading.RLock()):
                return self._import_private(name)
        parent, _, last = name.rpartition(".")
        if parent in self._modules:
            # A package with a file of its own travelled with all of its modules that it needs.
            self.missing.add(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        try:
            module = self.settings.import_installed(name)
        except ModuleNotFoundError as error:
            if error.name is not None:
                self.missing.add(error.name)
                # Where the package above it does not exist, the module is what the code needs.
                self.missing.update({name} if name.startswith(f"{error.name}.") else ())
            raise
        # A namespace package may have installed and private parts.
        if parent in self._packages:
            setattr(self.import_module(parent), last, module)
        return module

    def _import_private(self, name: str) -> ModuleType:
        parent, _, last = name.rpartition(".")
        package = self._import_private(parent) if parent else None
        if name in self._loaded:
            return self._loaded[name]
        file = self._modules.get(name)
        loader = Loader(self, name, file)
        spec = ModuleSpec(
            f"{self.label}:{name}",
            loader,
            origin=f"{self.label}/{file}" if file else None,
            is_package=self.is_package(name),
        )
        module = self._loaded[name] = _PrivateModule(spec, self, name)
        code = loader.get_code(name)
        if code is not None:
            # Dataclasses and typing look for a class's module in sys.modules while the class is made. No
            # other code uses this name, and it is removed when the module is complete.
            sys.modules[spec.name] = module
            try:
                with self.settings.recorded():
                    exec(code, module.__dict__)  # noqa: S102 - verified with the rest of the artifact
            except BaseException:
                self._loaded.pop(name, None)
                raise
            finally:
                sys.modules.pop(spec.name, None)
        if package is not None:
            setattr(package, last, module)
        return module

    def _import(
        self,
        name: str,
        variables: Mapping[str, Any] | None = None,
        _local: object = None,
        wanted: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """The `__import__` of private code, which import statements call."""
        full = self.project_name(name)
        if level:
            variables = variables or {}
            package = variables.get("__package__")
            if package is None:
                # A function stored by value knows nothing but the name of its module.
                package = self.project_name(variables.get("__name__", ""))
                package = package if self.is_package(package) else package.rpartition(".")[0]
            relative = absolute(full, level, self.project_name(package))
            if relative is None:
                raise ImportError("attempted relative import beyond the top-level package")
            full = relative
        module = self.import_module(full)
        if not wanted:
            return module if level else self.import_module(full.partition(".")[0])
        if self.owns(full):
            load = self.import_module
        elif hasattr(module, "__path__"):
            # `from urllib import request` imports the module that it names.
            load = importlib.import_module
        else:
            return module
        for attribute in getattr(module, "__all__", ()) if "*" in wanted else wanted:
            if hasattr(module, attribute):
                continue
            try:
                load(f"{full}.{attribute}")
            except ModuleNotFoundError as error:
                # If it is neither a module nor a variable, the import statement raises its own error.
                if error.name != f"{full}.{attribute}":
                    raise
        return module

    def create_function(
        self, code: CodeType, variables: dict[str, Any] | None, *arguments: Any
    ) -> FunctionType:
        """dill's function for making one that is stored by value; lets that import from the namespace, too."""
        from dill import _dill

        variables = {} if variables is None else variables
        # Before the function is made: it keeps the builtins that its globals hold then.
        variables.setdefault("__builtins__", self.builtins)
        function: FunctionType = _dill._create_function(code, variables, *arguments)
        return function

    def find(self, module: str, name: str) -> Any:
        """The object that a pickle refers to by module and name, or None if it is not of the namespace."""
        if (module, name) == ("dill._dill", "_create_function"):
            return self.create_function
        if module in _RESOURCE_MODULES and name in _RESOURCE_FUNCTIONS:
            return getattr(self.proxy("importlib.resources"), name)
        if name in _PROXIED_FUNCTIONS.get(module, ()):
            return getattr(self.proxy(module), name)
        if not self.owns(module):
            return None
        attribute: Any = self.import_module(module)
        for attribute_name in name.split("."):
            attribute = getattr(attribute, attribute_name)
        return attribute

    def source(self, file: str) -> bytes:
        """The content of a module's file."""
        return self._files[file]

    def folder(self, package: str) -> Folder:
        """The data files of a package."""
        prefix = f"{SOURCES}{package.replace('.', '/')}/"
        files = {
            name.removeprefix(prefix): content
            for name, content in self._files.items()
            if name.startswith(prefix)
        }
        listed = {name.removeprefix(prefix) for name in self._listed if name.startswith(prefix)}
        name = package.rpartition(".")[2]
        return Folder(name, files, lambda path: self.missing.add(f"{prefix}{path}"), listed=listed)

    def distribution(self, name: str, file: str) -> importlib.metadata.Distribution:
        """The distribution whose METADATA travelled as `file`, or else an installed one.

        Raises:
            PackageNotFoundError: there is neither.
        """
        if file in self._files:
            return ProjectDistribution(self._files[file])
        if not is_installed(name):
            self.missing.add(file)
        return importlib.metadata.distribution(name)

    def proxy(self, name: str) -> ModuleType:
        """The proxy of a module of the standard library."""
        if name not in self._proxies:
            self._proxies[name] = _Proxy(importlib.import_module(name), _PROXIED[name](self))
        return self._proxies[name]


def _clear_linecache(entries: Mapping[str, tuple[Any, ...]]) -> None:
    """Remove a version's entries, except those that the same version, loaded again, has replaced."""
    for file, entry in entries.items():
        if linecache.cache.get(file) is entry:
            linecache.cache.pop(file, None)


class Loader(importlib.abc.InspectLoader):
    """The `__loader__` of a private module, which gives access to its source and its data files."""

    def __init__(self, namespace: Namespace, name: str, file: str | None) -> None:
        self._namespace = namespace
        self._name = name
        self._file = file

    def get_source(self, fullname: str) -> str | None:  # noqa: ARG002 - importlib's signature
        """The module's source, or None for a package without a file."""
        if self._file is None:
            return None
        return importlib.util.decode_source(self._namespace.source(self._file))

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002 - importlib's signature
        """The module's code, compiled, or None for a package without a file."""
        source = self.get_source(self._name)
        if source is None or self._file is None:
            return None
        file = f"{self._namespace.label}/{self._file}"
        # For tracebacks and inspect.getsource: there is no such file on disk.
        entry = (len(source), None, source.splitlines(keepends=True), file)
        linecache.cache[file] = self._namespace.linecache_entries[file] = entry
        return compile(self._namespace.source(self._file), file, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002 - importlib's signature
        """Whether there may be modules below it."""
        return self._namespace.is_package(self._name)

    def get_resource_reader(self, fullname: str) -> Reader:  # noqa: ARG002 - importlib's signature
        """For `importlib.resources.files()`."""
        return Reader(self._namespace.folder(self._name))


class ProjectDistribution(importlib.metadata.Distribution):
    """The training project as a distribution, of which nothing but the METADATA travelled."""

    def __init__(self, metadata: bytes) -> None:
        self._metadata = metadata

    def read_text(self, filename: str) -> str | None:
        """The METADATA; None for every other file."""
        return self._metadata.decode() if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        """Always raises FileNotFoundError."""
        raise FileNotFoundError(errno.ENOENT, "it did not come with the model", str(path))


class _PrivateModule(ModuleType):
    """A module that imports those below it on access, as if other code had imported them before."""

    def __init__(self, spec: ModuleSpec, namespace: Namespace, project_name: str) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__loader__ = spec.loader
        self.__package__ = spec.parent
        if spec.origin is not None:
            self.__file__ = spec.origin
        if spec.submodule_search_locations is not None:
            self.__path__ = []
        self.__dict__["__builtins__"] = namespace.builtins
        self._below = (namespace, project_name)

    def __getattr__(self, name: str) -> Any:
        namespace, project_name = self.__dict__["_below"]
        if not name.startswith("__") and namespace.owns(f"{project_name}.{name}"):
            return namespace.import_module(f"{project_name}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Proxy(ModuleType):
    """A module of the standard library with some functions replaced."""

    def __init__(self, real: ModuleType, replaced: Mapping[str, Any]) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__.update(replaced)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _importlib(namespace: Namespace) -> dict[str, Any]:
    def import_module(name: str, package: str | None = None) -> ModuleType:
        """Import a module, private ones first."""
        bare = name.lstrip(".")
        full = absolute(bare, len(name) - len(bare), namespace.project_name(package or ""))
        if full is None:
            raise TypeError(f"a relative import of {name!r} needs the package that it starts from")
        return namespace.import_module(full)

    proxied = {name: namespace.proxy(f"importlib.{name}") for name in ("metadata", "resources")}
    return {"import_module": import_module, **proxied}


def _metadata(namespace: Namespace) -> dict[str, Any]:
    """The functions of importlib.metadata that name a distribution: the project itself is one, perhaps."""

    def distribution(distribution_name: str) -> importlib.metadata.Distribution:
        """A distribution by its name, the project's own first."""
        folder = re.sub(r"[-_.]+", "_", distribution_name).lower() + DIST_INFO
        return namespace.distribution(distribution_name, f"{SOURCES}{folder}/METADATA")

    return {
        "distribution": distribution,
        "metadata": lambda distribution_name: distribution(distribution_name).metadata,
        "version": lambda distribution_name: distribution(distribution_name).version,
    }


def _resources(namespace: Namespace) -> dict[str, Any]:
    """The functions of importlib.resources whose first argument is a package."""

    def for_private_packages(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            for name in ("anchor", "package"):
                if name in options:
                    arguments = (options.pop(name), *arguments)
            if not arguments:
                arguments = (sys._getframe(1).f_globals["__name__"],)
            package, *rest = arguments
            if isinstance(package, str) and namespace.owns(namespace.project_name(package)):
                package = namespace.import_module(package)
            return real(package, *rest, **options)

        return call

    return {
        name: for_private_packages(getattr(importlib.resources, name))
        for name in _RESOURCE_FUNCTIONS
        if hasattr(importlib.resources, name)
    }


def _pkgutil(namespace: Namespace) -> dict[str, Any]:
    def get_data(package: str, resource: str) -> bytes | None:
        """The content of a data file of a package."""
        name = namespace.project_name(package)
        if not namespace.owns(name):
            return pkgutil.get_data(package, resource)
        # Files beside a module belong to the package that holds the module.
        package = name if namespace.is_package(name) else name.rpartition(".")[0]
        return namespace.folder(package).joinpath(resource).read_bytes()

    return {"get_data": get_data}


_PROXIED: dict[str, Callable[[Namespace], dict[str, Any]]] = {
    "importlib": _importlib,
    "importlib.metadata": _metadata,
    "importlib.resources": _resources,
    "pkgutil": _pkgutil,
}
"""Modules of the standard library that take names of modules, and the functions that replace theirs."""
