"""A server's URL is never shown with what is secret in it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from scoreline_client import AsyncClient, Client
from scoreline_client.errors import SettingsError
from scoreline_client.settings import ClientSettings, SentinelUrl, misspelt_variables
from scoreline_client.shown import shown_url
from scoreline_client.transport.servers import read_cautions

SECRET = "s3cret"
URLS = [
    f"redis://scoreline:{SECRET}@queue.internal:6379/0",
    f"redis://:{SECRET}@queue.internal",
    f"redis://:{SECRET}#x@queue.internal:6379/0",
    f"redis://:12/{SECRET}@queue.internal/0",
    f"redis://:a/{SECRET}@queue.internal:6379/0",
    f"redis://:1?{SECRET}@queue.internal:6379/0",
    f"redis://queue.internal/0?password={SECRET}",
    f"redis://queue.internal/0?password=a@{SECRET}",
    f"unix://:{SECRET}@/run/redis.sock",
    f"rediss://{SECRET}",
    f"http://:{SECRET}@queue.internal",
]


@pytest.mark.parametrize("url", URLS[:-2] + URLS[-1:])
def test_a_url_is_shown_without_its_secrets(url: str) -> None:
    assert SECRET not in shown_url(url)
    assert SECRET not in ClientSettings(redis_url=url).server


def test_a_url_is_shown_with_what_helps() -> None:
    assert shown_url("redis://u:p@queue.internal:6379/0") == "redis://queue.internal:6379/0"
    assert shown_url("redis://127.0.0.1:6379/0") == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize("url", [*URLS[2:6], URLS[-1]])
def test_a_url_that_cannot_be_meant_so_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        ClientSettings(redis_url=url).check_redis_url()
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "", "redis://", "redis://:6379/0", "redis:///3", "redis:/127.0.0.1", "127.0.0.1:7390", "http://127.0.0.1",
        "redis://localhost/zero", "redis://localhost/0/1", "redis://localhost/-1", "redis://localhost:99999",
        "redis://localhost/0?nope=1", "redis://localhost?socket_timeout=soon", "redis://localhost?db=zero",
        "rediss://localhost?ssl_nope=1", "redis+sentinel://localhost/mymaster?nope=1", "unix:", "unix:///a?nope=1",
    ],
)  # fmt: skip
def test_nothing_of_a_url_is_guessed_or_left_to_the_first_request(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCORELINE_REDIS_URL", raising=False)
    for kind in (Client, AsyncClient):
        with pytest.raises(SettingsError, match="redis_url is ") as refused:
            kind(url)
        assert "SCORELINE_REDIS_URL" not in str(refused.value)
        monkeypatch.setenv("SCORELINE_REDIS_URL", url)
        with pytest.raises(SettingsError, match="SCORELINE_REDIS_URL is "):
            kind()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            f"redis://:{SECRET}#x@127.0.0.1:7711/0",
            "'redis://:***@127.0.0.1:7711/0'; expected a password with '#' as %23",
        ),
        (f"redis://user:12/{SECRET}@queue/0", "'redis://:***@queue/0'; expected a password with '/' as %2F"),
        (f"redis://:1?{SECRET}@queue", "'redis://:***@queue'; expected a password with '?' as %3F"),
        (f"redis://:?{SECRET}/#@queue", "with '/' as %2F and '?' as %3F and '#' as %23"),
        (f"redis://localhost/zero?password=a@{SECRET}", "'redis://…'; expected a URL such as"),
        (f"redis://127.0.0.1:7711/0?foo={SECRET}", "'redis://127.0.0.1:7711/0?foo=…'; expected options"),
        ("redis://localhost:99999/0", "expected a port from 1 to 65535"),
        (f"redis://:{SECRET}@localhost:99999/0", "'redis://localhost:99999/0'; expected a port"),
        ("redis://localhost:port", "expected a URL such as"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_url_is_shown_and_said(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)) as refused:
        Client(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", [5, b"redis://localhost", ["redis://localhost"]])
def test_a_url_that_is_no_text_is_refused(url: Any) -> None:
    with pytest.raises(SettingsError, match="text"):
        Client(url)
    with pytest.raises(SettingsError, match="text"):
        Client(settings=ClientSettings(redis_url=url))


def test_a_variable_with_a_slip_in_its_name_is_told_with_the_one_that_was_meant() -> None:
    given = dict.fromkeys(
        [
            *("SCORELINE_REDISURL", "SCORELINE_POL_S", "scoreline_queue", "SCORELINE_QUEUE"),
            *("SCORELINE_MODELS", "SCORELINE_API_PORT", "SCORELINE_REDIS_SERVICE_HOST", "QUEUE"),
        ],
        "x",
    )
    assert misspelt_variables(given) == [
        "SCORELINE_POL_S is no setting; did you mean SCORELINE_POLL_S?",
        "SCORELINE_REDISURL is no setting; did you mean SCORELINE_REDIS_URL?",
        "scoreline_queue is no setting; did you mean SCORELINE_QUEUE?",
    ]


def test_an_empty_variable_is_no_server() -> None:
    settings = ClientSettings.from_environment({"SCORELINE_REDIS_URL": "", "SCORELINE_QUEUE": ""})
    assert settings.queue == "default"
    with pytest.raises(SettingsError, match="SCORELINE_REDIS_URL is ''"):
        settings.check_redis_url()


@pytest.mark.parametrize(
    ("url", "sentinels", "service", "server"),
    [
        (
            "redis+sentinel://one:26379,two:26380/mymaster/3",
            [("one", 26379), ("two", 26380)],
            "mymaster",
            "redis://one:26379/3",
        ),
        (
            "redis+sentinel://user:p%40w@one/mymaster",
            [("one", 26379)],
            "mymaster",
            "redis://user:p%40w@one/0",
        ),
        (
            "rediss+sentinel://:pw@[::1]:5,10.0.0.2:6/a/1?ssl_ca_certs=/ca.pem",
            [("::1", 5), ("10.0.0.2", 6)],
            "a",
            "rediss://:pw@[::1]:5/1?ssl_ca_certs=/ca.pem",
        ),
    ],
)
def test_a_url_with_sentinels_names_them_and_a_service(
    url: str, sentinels: list[tuple[str, int]], service: str, server: str
) -> None:
    assert SentinelUrl.parse(url) == SentinelUrl(sentinels, service, server)
    ClientSettings(redis_url=url, allow_no_password=1).check_redis_url()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:26379,two:26380",
        "redis+sentinel://one:26379/",
        "redis+sentinel:///mymaster",
        "redis+sentinel://one,,two/mymaster",
        "redis+sentinel://one:x/mymaster",
        "redis+sentinel://one/mymaster/zero",
        "redis+sentinel://:se/cret@one/mymaster",
        "http+sentinel://one/mymaster",
    ],
)
def test_a_url_with_sentinels_that_is_not_one_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="SCORELINE_REDIS_URL") as refused:
        ClientSettings(redis_url=url).check_redis_url()
    assert "cret" not in str(refused.value)


def test_a_url_with_sentinels_is_shown_without_its_password() -> None:
    url = "redis+sentinel://user:secret@one:1,two:2/mymaster/0"
    assert shown_url(url) == "redis+sentinel://one:1,two:2/mymaster/0"


OPEN = [
    "redis://queue.internal",
    "redis://10.0.0.7:6379/0",
    "rediss://redis:6379/0",
    "redis://user@host",
    "redis+sentinel://127.0.0.1,one/mymaster",
]
GUARDED = [
    "redis://:p@queue.internal", "redis://u:p@queue.internal", "redis://queue.internal/0?password=p",
    "rediss://queue.internal/0?ssl_certfile=a.pem&ssl_keyfile=a.key", "redis://localhost/0",
    "redis://127.0.0.1:6380/3", "redis://127.1.2.3", "redis://[::1]:6379/0", "unix:///run/redis.sock",
]  # fmt: skip


@pytest.mark.parametrize("url", OPEN)
def test_a_server_on_the_network_without_a_password_is_refused_unless_told_otherwise(
    url: str,
) -> None:
    with pytest.raises(SettingsError, match="SCORELINE_ALLOW_NO_PASSWORD=1"):
        ClientSettings(redis_url=url).check_redis_url()
    told = {"SCORELINE_REDIS_URL": url, "SCORELINE_ALLOW_NO_PASSWORD": "1"}
    ClientSettings.from_environment(told).check_redis_url()


@pytest.mark.parametrize("url", GUARDED)
def test_a_server_that_is_guarded_or_on_this_machine_is_not_refused(url: str) -> None:
    ClientSettings(redis_url=url).check_redis_url()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"maxmemory_policy": "noeviction", "aof_enabled": 1}, []),
        ({}, []),  # a service that hides its settings
        ({"maxmemory_policy": "allkeys-lru", "aof_enabled": 1}, ["allkeys-lru"]),
        ({"maxmemory_policy": "noeviction", "aof_enabled": 0}, ["appendonly is off"]),
    ],
    ids=["as it should be", "hidden", "it evicts", "it forgets"],
)
def test_what_a_servers_settings_may_cost_is_told(info: dict[str, Any], words: list[str]) -> None:
    server: Any = SimpleNamespace(info=lambda _section: info)
    found = read_cautions(server)
    assert len(found) == len(words)
    assert all(word in one for word, one in zip(words, found, strict=True))
