"""What a piece of code imports, found without running it."""

from __future__ import annotations

import ast
import dis
from collections.abc import Iterator
from types import CodeType
from typing import cast

_IMPORTERS = frozenset({"import_module", "__import__"})
_LOADS = frozenset({"LOAD_CONST", "LOAD_SMALL_INT"})


def imports_of_source(source: bytes, module: str, is_package: bool) -> set[str]:
    """Absolute names of all modules that a module's source may import, wherever in it.

    Names that may be either a module or something inside one (`from a import b`, `a.b` after
    `import a`) are in it as modules: the caller knows which of them exist. What stands under
    `if TYPE_CHECKING:` or `if __name__ == "__main__":` never runs on import and is left out.

    Raises:
        SyntaxError: this is no Python.
    """
    package = module if is_package else module.rpartition(".")[0]
    finder = _Finder(package)
    finder.visit(ast.parse(source))
    return finder.found | finder.attributes()


def imports_of_code(code: CodeType, package: str) -> set[str]:
    """The same for compiled code, which is all that there is of a function of `__main__`."""
    found: set[str] = set()
    loaded: list[object] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS:
            loaded.append(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            # The compiler puts the level and the names before every import.
            level, names = loaded[-2:]
            found |= set(_imported(instruction.argval, cast(int, level), names, package))
    if _IMPORTERS & {*code.co_names}:
        found |= {text for text in code.co_consts if isinstance(text, str) and _is_dotted(text)}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= imports_of_code(inner, package)
    return found


def absolute(name: str, level: int, package: str) -> str | None:
    """The absolute name of a relative import, or None beyond the top-level package."""
    if level == 0:
        return name
    parts = package.split(".") if package else []
    if level > len(parts):
        return None
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{name}" if name else base


def _imported(name: str, level: int, names: object, package: str) -> Iterator[str]:
    base = absolute(name, level, package)
    if base is None:
        return
    yield base
    for one in names if isinstance(names, tuple | list) else ():
        yield f"{base}.{one}"


def _is_dotted(text: str) -> bool:
    return bool(text) and all(part.isidentifier() for part in text.lstrip(".").split("."))


class _Finder(ast.NodeVisitor):
    """Collects imports, and attributes of what was imported."""

    def __init__(self, package: str) -> None:
        self.found: set[str] = set()
        self._package = package
        self._bound: dict[str, str] = {}
        self._dotted: set[tuple[str, str]] = set()

    def attributes(self) -> set[str]:
        """`a.b` for each use of `x.b` after `import a as x`: b may be a module that others imported."""
        return {f"{self._bound[name]}.{rest}" for name, rest in self._dotted if name in self._bound}

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.add(alias.name)
            top = alias.name.partition(".")[0]
            self._bound[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = [alias.name for alias in node.names]
        self.found |= set(_imported(node.module or "", node.level, names, self._package))
        base = absolute(node.module or "", node.level, self._package)
        for alias in node.names:
            self._bound[alias.asname or alias.name] = f"{base}.{alias.name}"

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in _IMPORTERS and node.args:
            self._note_literal(node.args[0])
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
        if _never_on_import(node.test):
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def _note_literal(self, node: ast.expr) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.lstrip(".")
            full = absolute(name, len(node.value) - len(name), self._package)
            if full:
                self.found.add(full)


def _never_on_import(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        sides = [test.left, test.comparators[0]]
        named = any(isinstance(one, ast.Name) and one.id == "__name__" for one in sides)
        return named and any(isinstance(s, ast.Constant) and s.value == "__main__" for s in sides)
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
