"""Modules that came with an artifact: private, several versions at once, whatever way they are named."""

from __future__ import annotations

import gc
import inspect
import linecache
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from scoreline_artifacts.loading.namespace import Namespace


def _namespace(sources: dict[str, str], data: dict[str, bytes] | None = None) -> Namespace:
    """A namespace of modules by path: `pkg/__init__.py`, `pkg/mod.py`."""
    files = {f"sources/{path}": text.encode() for path, text in sources.items()}
    modules = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): f"sources/{path}"
        for path in sources
    }
    held = {f"sources/{path}": content for path, content in (data or {}).items()}
    return Namespace("m@1", modules, files | held)


@pytest.fixture(autouse=True)
def _nothing_of_it_is_seen() -> Iterator[None]:
    before = set(sys.modules)
    yield
    new = set(sys.modules) - before
    assert not [name for name in new if ":" in name or name.startswith(("pkg", "helpers"))]


@pytest.mark.parametrize(
    ("statement", "expression"),
    [
        ("import pkg.sub.deep", "pkg.sub.deep.VALUE"),
        ("import pkg.sub.deep as d", "d.VALUE"),
        ("from pkg.sub import deep", "deep.VALUE"),
        ("from pkg.sub.deep import VALUE", "VALUE"),
        ("from pkg.sub.deep import *", "VALUE"),
        ("from pkg import *", "sub.deep.VALUE"),
        ("import pkg", "pkg.sub.deep.VALUE"),
        ("import importlib", "importlib.import_module('pkg.sub.deep').VALUE"),
        ("import importlib", "importlib.import_module('.sub.deep', package='pkg').VALUE"),
        ("from importlib import import_module", "import_module('pkg.sub.deep').VALUE"),
        ("", "__import__('pkg.sub.deep').sub.deep.VALUE"),
    ],
)
def test_a_module_finds_another_however_it_names_it(statement: str, expression: str) -> None:
    namespace = _namespace(
        {
            "pkg/__init__.py": "__all__ = ['sub']",
            "pkg/sub/__init__.py": "",
            "pkg/sub/deep.py": "VALUE = 7",
            "user.py": f"{statement}\ndef ask():\n    return {expression}\n",
        }
    )
    assert namespace.import_module("user").ask() == 7


@pytest.mark.parametrize(
    "statement",
    [
        "from . import near",
        "from .near import VALUE",
        "from ..pkg import near",
        "from .. import top",
    ],
)
def test_relative_imports_stay_inside(statement: str) -> None:
    namespace = _namespace(
        {
            "base/__init__.py": "",
            "base/top.py": "",
            "base/pkg/__init__.py": "",
            "base/pkg/near.py": "VALUE = 1",
            "base/pkg/user.py": statement,
        }
    )
    namespace.import_module("base.pkg.user")
    assert namespace.missing == set()


def test_a_relative_import_beyond_the_top_is_an_error() -> None:
    namespace = _namespace({"pkg/__init__.py": "from ... import x"})
    with pytest.raises(ImportError, match="beyond the top-level package"):
        namespace.import_module("pkg")


@pytest.mark.parametrize(
    "statement", ["from xml.dom import pulldom", "from xml.dom import nothing, pulldom"]
)
def test_a_module_of_an_installed_package_is_imported_by_its_name(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xml.dom

    monkeypatch.delitem(sys.modules, "xml.dom.pulldom", raising=False)
    monkeypatch.delattr(xml.dom, "pulldom", raising=False)
    namespace = _namespace({"user.py": f"try:\n    {statement}\nexcept ImportError:\n    pass\n"})
    namespace.import_module("user")
    assert "xml.dom.pulldom" in sys.modules
    assert namespace.missing == set()


def test_an_import_inside_a_function_works_when_it_is_called() -> None:
    namespace = _namespace(
        {"helpers.py": "X = 3", "user.py": "def ask():\n    from helpers import X\n    return X\n"}
    )
    assert namespace.import_module("user").ask() == 3


def test_modules_that_import_each_other_get_along() -> None:
    namespace = _namespace(
        {
            "pkg/__init__.py": "from . import a",
            "pkg/a.py": "from . import b\ndef one():\n    return b.TWO - 1",
            "pkg/b.py": "from . import a\nTWO = 2\ndef one():\n    return a.one()",
        }
    )
    assert namespace.import_module("pkg.b").one() == 1


def test_a_package_without_a_file_of_its_own_is_one() -> None:
    namespace = _namespace({"parts/deep/mod.py": "VALUE = 1", "user.py": "import parts.deep.mod"})
    assert namespace.import_module("user").parts.deep.mod.VALUE == 1


def test_a_package_may_be_in_parts_some_of_them_installed() -> None:
    # `email` stands for a package of which another part is installed.
    namespace = _namespace(
        {"email/extra/local.py": "X = 1", "user.py": "import email.extra.local, email.utils"}
    )
    user = namespace.import_module("user")
    assert user.email.extra.local.X == 1
    assert user.email.utils is sys.modules["email.utils"]


def test_two_versions_of_the_same_modules_live_side_by_side() -> None:
    one = _namespace({"helpers.py": "X = 1", "user.py": "import helpers\nask = lambda: helpers.X"})
    two = _namespace({"helpers.py": "X = 2", "user.py": "import helpers\nask = lambda: helpers.X"})
    assert one.import_module("user").ask() == 1
    assert two.import_module("user").ask() == 2


def test_a_module_that_came_along_goes_before_an_installed_one() -> None:
    namespace = _namespace({"json.py": "VALUE = 'ours'", "user.py": "import json"})
    assert namespace.import_module("user").json.VALUE == "ours"
    assert not hasattr(sys.modules["json"], "VALUE")


def test_what_is_not_there_is_remembered_and_raised() -> None:
    namespace = _namespace({"user.py": "try:\n    import faster\nexcept ImportError:\n    pass\n"})
    namespace.import_module("user")
    assert namespace.missing == {"faster"}


def test_a_module_that_fails_is_tried_again() -> None:
    namespace = _namespace({"helpers.py": "import nowhere_to_be_found"})
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
            namespace.import_module("helpers")


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    "source",
    [
        FUTURE + "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 5\n",
        FUTURE + "import dataclasses, typing\n@dataclasses.dataclass(frozen=True, slots=True)\n"
        "class A:\n    y: typing.ClassVar[int] = 1\n    x: int = 5\n",
        "import typing\nclass A(typing.NamedTuple):\n    x: int = 5\n",
        "class Base:\n    x = 4\nclass A(Base):\n    @property\n    def x(self):\n"
        "        return super().x + 1\n",
        "import enum\nclass E(enum.IntEnum):\n    FIVE = 5\nclass A:\n    x = E.FIVE\n",
        "import functools\n@functools.singledispatch\ndef f(a):\n    return 0\n@f.register\n"
        "def _(a: int):\n    return 5\nclass A:\n    x = f(1)\n",
        "import sys\nclass A:\n    x = 5 if sys.modules[__name__] else 0\n",
    ],
    ids=["dataclass", "slots", "namedtuple", "super", "enum", "singledispatch", "sys.modules"],
)
def test_classes_of_every_kind_can_be_made(source: str) -> None:
    assert _namespace({"helpers.py": source}).import_module("helpers").A().x == 5


def test_a_class_can_be_sent_to_another_process_as_joblib_does() -> None:
    namespace = _namespace(
        {
            "helpers.py": "class A:\n    def ask(self):\n        return helper()\ndef helper():\n    return 5"
        }
    )
    made = namespace.import_module("helpers").A()
    assert pickle.loads(cloudpickle.dumps(made)).ask() == 5


def test_the_source_is_there_for_tracebacks_and_inspect() -> None:
    namespace = _namespace({"helpers.py": "def fail():\n    return 1 / 0  # here\n"})
    fail = namespace.import_module("helpers").fail
    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert "1 / 0  # here" in inspect.getsource(fail)
    assert "1 / 0  # here" in "".join(traceback.format_exception(caught.value))


def test_the_source_of_a_version_that_was_let_go_is_not_kept() -> None:
    before = set(linecache.cache)
    namespace = _namespace({"gone/__init__.py": "", "gone/deep.py": "def f():\n    return 1\n"})
    assert namespace.import_module("gone.deep").f() == 1
    assert "m@1/sources/gone/deep.py" in linecache.cache
    del namespace
    gc.collect()
    assert set(linecache.cache) <= before


def test_a_version_that_was_let_go_leaves_the_source_to_the_same_one_loaded_again() -> None:
    first = _namespace({"again.py": "def f():\n    return 1\n"})
    first.import_module("again")
    second = _namespace({"again.py": "def f():\n    return 1\n"})
    again = second.import_module("again")
    del first
    gc.collect()
    assert "return 1" in inspect.getsource(again.f)


def test_threads_that_import_at_the_same_moment_get_the_same_module() -> None:
    namespace = _namespace({"helpers.py": "import time\ntime.sleep(0.01)\nclass A: pass"})
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(namespace.import_module("helpers").A))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


READERS = {
    "files by name": "from importlib import resources\n"
    "def ask():\n    return resources.files('pkg').joinpath('data/words.txt').read_text()",
    "files by __package__": "from importlib.resources import files\n"
    "def ask():\n    return (files(__package__) / 'data' / 'words.txt').read_text()",
    "files of the module": "import importlib.resources as r, pkg\n"
    "def ask():\n    return r.files(pkg).joinpath('data', 'words.txt').open().read()",
    "as_file": "from importlib import resources\ndef ask():\n"
    "    with resources.as_file(resources.files('pkg') / 'data/words.txt') as path:\n"
    "        return path.read_text()",
    "get_data": "import pkgutil\ndef ask():\n"
    "    return pkgutil.get_data('pkg', 'data/words.txt').decode()",
    "listing": "from importlib import resources\ndef ask():\n"
    "    return next(resources.files('pkg').joinpath('data').iterdir()).read_text()",
}


@pytest.mark.parametrize("source", READERS.values(), ids=READERS)
def test_data_files_are_read_from_the_artifact(source: str) -> None:
    namespace = _namespace(
        {"pkg/__init__.py": "", "pkg/user.py": source}, {"pkg/data/words.txt": b"a b"}
    )
    assert namespace.import_module("pkg.user").ask() == "a b"


@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated")
def test_a_text_of_a_package_is_read_with_read_text() -> None:
    source = "from importlib.resources import read_text\nTEXT = read_text('pkg', 'words.txt')"
    namespace = _namespace({"pkg/__init__.py": source}, {"pkg/words.txt": b"a b"})
    assert namespace.import_module("pkg").TEXT == "a b"


@pytest.mark.parametrize("source", [READERS["files by name"], READERS["get_data"]])
def test_a_data_file_that_is_not_there_is_remembered(source: str) -> None:
    namespace = _namespace({"pkg/__init__.py": "", "pkg/user.py": source})
    with pytest.raises(FileNotFoundError, match=r"data/words\.txt"):
        namespace.import_module("pkg.user").ask()
    assert "sources/pkg/data/words.txt" in namespace.missing


def test_data_of_installed_packages_is_read_as_ever() -> None:
    source = "from importlib import resources\nASK = resources.files('email').is_dir()"
    assert _namespace({"helpers.py": source}).import_module("helpers").ASK


def test_other_things_of_importlib_are_those_of_the_standard_library() -> None:
    source = "import importlib, importlib.util, importlib.resources\nreload = importlib.reload"
    module = _namespace({"helpers.py": source}).import_module("helpers")
    assert module.reload is sys.modules["importlib"].reload
    assert module.importlib.util is sys.modules["importlib.util"]


def test_what_is_asked_for_below_a_package_is_noted_by_its_own_name() -> None:
    namespace = _namespace({"steps/__init__.py": ""})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'steps\.square'"):
        namespace.import_module("steps.square")
    assert namespace.missing == {"steps.square"}


def test_pkgutil_finds_data_beside_a_module_that_is_no_package() -> None:
    namespace = _namespace(
        {
            "pkg/__init__.py": "",
            "pkg/reads.py": "import pkgutil\nDATA = pkgutil.get_data(__name__, 'data/x.txt')\n",
        },
        {"pkg/data/x.txt": b"4"},
    )
    assert namespace.import_module("pkg.reads").DATA == b"4"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_imports_though_a_thread_of_its_parent_was_importing_at_that_moment() -> None:
    begun, go_on = os.pipe(), os.pipe()
    slow = f"import os\nos.write({begun[1]}, b'x')\nos.read({go_on[0]}, 1)\n"
    namespace = _namespace({"slow.py": slow, "quick.py": "VALUE = 7"})
    thread = threading.Thread(target=lambda: namespace.import_module("slow"))
    thread.start()
    os.read(begun[0], 1)
    child = os.fork()
    if child == 0:
        os._exit(namespace.import_module("quick").VALUE)
    status = os.waitpid(child, 0)[1]
    os.write(go_on[1], b"x")
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7
    for descriptor in (*begun, *go_on):
        os.close(descriptor)
