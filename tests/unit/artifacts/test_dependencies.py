"""What code imports is found without running it."""

from __future__ import annotations

import pytest

from scoreline_artifacts.dependencies import imports_of_code, imports_of_source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import helpers", {"helpers"}),
        ("import a.b.c", {"a.b.c"}),
        ("import a.b as short\nshort.c.d", {"a.b", "a.b.c", "a.b.c.d"}),
        ("from a import b", {"a", "a.b"}),
        ("from . import near", {"pkg", "pkg.near"}),
        ("from .near import x", {"pkg.near", "pkg.near.x"}),
        ("from .. import top", set()),
        ("def f():\n    import late", {"late"}),
        ("try:\n    import fast\nexcept ImportError:\n    import slow", {"fast", "slow"}),
        ("import importlib\nimportlib.import_module('a.b')", {"importlib", "a.b"}),
        ("from importlib import import_module\nimport_module('.near')", {"pkg.near"}),
        ("__import__('a')", {"a"}),
        ("import a\na.b.f()", {"a", "a.b", "a.b.f"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import secret", set()),
        (
            "import typing\nif typing.TYPE_CHECKING:\n    import secret\nelse:\n    import real",
            {"real"},
        ),
        ("if __name__ == '__main__':\n    import secret", set()),
        ("if '__main__' == __name__:\n    import secret", set()),
        ("if __name__ == 'other':\n    import real", {"real"}),
    ],
)
def test_imports_of_a_module_are(source: str, expected: set[str]) -> None:
    found = imports_of_source(source.encode(), "pkg.user", is_package=False)
    assert expected <= found
    assert "secret" not in found


def test_a_packages_own_file_is_in_the_package() -> None:
    assert imports_of_source(b"from . import sub", "pkg", is_package=True) == {"pkg", "pkg.sub"}


def test_imports_of_a_function_are_in_its_bytecode() -> None:
    source = (
        "def outer():\n    import a.b\n    from c import d\n"
        "    def inner():\n        from . import e\n        return e\n    return inner\n"
        "    importlib.import_module('f.g')\n"
    )
    variables: dict[str, object] = {}
    exec(source, variables)
    code = variables["outer"].__code__  # type: ignore[attr-defined]
    assert imports_of_code(code, "pkg") >= {"a.b", "c", "c.d", "pkg", "pkg.e"}
