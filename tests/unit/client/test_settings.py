"""A server's URL is never shown with what is secret in it."""

from __future__ import annotations

import pytest

from scoreline_client.errors import SettingsError
from scoreline_client.settings import ClientSettings, shown_url

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
