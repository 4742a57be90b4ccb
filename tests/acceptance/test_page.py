"""The live page in a real browser, in front of a gateway, workers and a server that are real, too."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from scoreline_artifacts.store import releases
from scoreline_client import Client
from scoreline_client.cli.acl import Role, rights
from scoreline_client.errors import RecordRejected, ScorelineError
from scoreline_client.fleet import announce_release
from scoreline_client.protocol.keys import Keys
from tests.acceptance.conftest import MODEL, Fleet, kill_group, publish_evil, publish_shift
from tests.support.browser import Browser, find_browser, open_browser
from tests.support.gateway import running_gateway

EXECUTABLE = find_browser()
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        EXECUTABLE is None,
        reason="no browser: put Chromium on PATH, or name it in SCORELINE_TEST_BROWSER",
    ),
]
HOSTILE = "<img src=x onerror=document.title='broken-in'>\x1b[2J</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(str(EXECUTABLE), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def gateway(fleet: Fleet) -> Iterator[str]:
    with running_gateway(fleet.environment) as url:
        yield url


@pytest.fixture
def load(fleet: Fleet) -> Iterator[None]:
    """Callers who ask one after the other until the end of the test; every fifth record is rejected."""
    is_over = threading.Event()

    def ask(number: int) -> None:
        with Client(settings=fleet.settings) as client:
            turn = number
            while not is_over.wait(0.005):
                turn += 1
                record = {"x": "much"} if turn % 5 == 0 else {"x": turn}
                # While workers die nobody answers.
                with suppress(RecordRejected, ScorelineError):
                    client.predict(MODEL, record, timeout=2)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    yield
    is_over.set()
    for thread in threads:
        thread.join()


def test_the_page_follows_a_queue_under_load_a_release_and_the_death_of_a_worker(
    fleet: Fleet,
    browser: Browser,
    gateway: str,
    load: None,
    tmp_path: Path,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    worker = fleet.start_worker(2)
    page = browser.page()
    page.open(gateway)
    eventually(lambda: page.text("#state") == "live")
    assert not page.run("document.querySelector('#main').hidden")
    # Rates need two readings.
    eventually(lambda: page.text("#versions tbody th") == f"{MODEL}@1")
    eventually(lambda: "/s" in page.text("#tiles"))
    first = page.text("#moment")
    eventually(lambda: page.text("#moment") != first)
    eventually(lambda: "E_TYPE" in page.text("#errors"))
    assert page.run("document.querySelectorAll('#workers tbody tr').length") == 3
    assert page.run("document.querySelectorAll('#charts svg').length") == 4

    # A file is on its way, as long as its writer goes on.
    os.mkfifo(tmp_path / "in.csv")
    is_seen = threading.Event()

    def write() -> None:
        with (tmp_path / "in.csv").open("w") as file:
            file.write("x\n")
            while not is_seen.is_set():
                file.write("1\n2\n3\n" * 1000)

    with Client(settings=fleet.settings) as client, ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        scoring = pool.submit(client.score_file, MODEL, tmp_path / "in.csv", tmp_path / "out.csv")
        try:
            eventually(lambda: "in.csv" in page.text("#jobs"))
            page.screenshot(tmp_path / "page.png", whole=True)
        finally:
            is_seen.set()
        writing.result()
        assert scoring.result().rejected == 0
    eventually(lambda: "No bulk job is running" in page.text("#jobs"))

    # A release arrives, and one that workers refuse.
    releases.promote(fleet.store, MODEL, publish_shift(fleet.store, 2.0))
    announce_release(fleet.redis, fleet.keys, MODEL)
    eventually(
        lambda: "version 2" in page.text("#releases") and "in force" in page.text("#releases")
    )
    eventually(lambda: f"{MODEL}@2" in page.text("#versions"))
    releases.promote(
        fleet.store, MODEL, publish_evil(fleet.store, exec, f"raise ValueError({HOSTILE!r})")
    )
    announce_release(fleet.redis, fleet.keys, MODEL)
    eventually(lambda: "refused" in page.text("#releases"))
    assert "<img src=x" in page.text("#releases")

    # A worker dies.
    kill_group(worker)
    eventually(lambda: "No worker is alive" in page.text("#workers"))
    eventually(lambda: page.run("state.glance.lanes.online.waiting") > 0)
    assert "broken-in" not in page.run("document.title")
    assert page.complaints == []


def test_what_came_over_the_queue_is_text_and_the_page_says_when_it_knows_nothing_new(
    redis_client: Redis,
    redis_url: str,
    browser: Browser,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    """With the rights of `metrics`, which are all that the page needs, and of an operator to read dead letters."""
    letter = {"model": HOSTILE, "lane": "online", "reason": HOSTILE, "id": HOSTILE}
    redis_client.xadd(Keys("default").dead, letter)
    words = [
        word for role in (Role.METRICS, Role.OPERATOR) for word in rights(role, "default").split()
    ]
    redis_client.execute_command("ACL", "SETUSER", "viewer", "reset", "on", ">word", *words)
    redis_client.acl_log_reset()
    environment = {"SCORELINE_REDIS_URL": redis_url.replace("://", "://viewer:word@")}
    with running_gateway(environment) as url:
        page = browser.page(width=390, height=844, scheme="dark")
        page.open(url)
        eventually(lambda: HOSTILE[:20] in page.text("#letters"))
        assert redis_client.acl_log() == []
        assert page.run("document.querySelectorAll('img').length") == 0
        # It fits on a phone: nothing but the tables is wider than it.
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
        redis_client.execute_command("ACL", "SETUSER", "viewer", "nocommands", "clearselectors")
        eventually(lambda: "Redis is away" in page.text("#state"))
        assert page.run("document.body.classList.contains('stale')")
        redis_client.execute_command("ACL", "SETUSER", "viewer", *words)
        eventually(lambda: page.text("#state") == "live")
        assert "broken-in" not in page.run("document.title")
        assert page.complaints == []
    eventually(lambda: "cannot be reached" in page.text("#state"))
    redis_client.acl_deluser("viewer")


@pytest.mark.exhaustive
def test_a_page_that_needs_a_token_asks_for_it_and_is_not_watched_while_it_is_hidden(
    redis_client: Redis,
    redis_url: str,
    browser: Browser,
    tmp_path: Path,
    eventually: Callable[[Callable[[], Any]], Any],
) -> None:
    tokens = tmp_path / "tokens"
    lines = [
        f"{hashlib.sha256(word.encode()).hexdigest()} {word} * {right}"
        for word, right in (("good", "metrics"), ("poor", "score"))
    ]
    tokens.write_text("\n".join(lines))
    environment = {"SCORELINE_REDIS_URL": redis_url, "SCORELINE_GATEWAY_TOKENS": str(tokens)}

    def send(word: str) -> None:
        page.run(f"by('token').value = '{word}'; by('ask').requestSubmit()")

    with running_gateway(environment) as url:
        page = browser.page()
        page.open(url)
        eventually(lambda: "a token is needed" in page.text("#state"))
        send("poor")
        eventually(lambda: "does not have the right" in page.text("#state"))
        send("good")
        eventually(lambda: page.text("#state") == "live")
        assert page.run("document.querySelector('#ask').hidden")
        page.hide(True)
        eventually(lambda: page.text("#state") == "paused")
        assert page.run("state.stop === null")
        page.hide(False)
        eventually(lambda: page.text("#state") == "live")
