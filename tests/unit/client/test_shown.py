"""What is printed and logged holds no secrets of URLs, and nothing that steers a terminal."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline_client.codes import Code
from scoreline_client.errors import FileRefused, ScorelineError
from scoreline_client.files.sink import Target, outputs_for, writing
from scoreline_client.files.source import open_source
from scoreline_client.shown import shown_name, shown_text, without_places, without_secrets

SECRET = "s3cretT0ken"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
URLS = [
    f"https://bucket.internal/in.csv?X-Amz-Signature={SECRET}",
    f"https://user:{SECRET}@host.internal/in.csv",
    f"https://user:a/{SECRET}@host.internal/in.csv",
    f"https://user:12/{SECRET}@host.internal/in.csv",
    f"https://user:a?{SECRET}@host.internal/in.csv",
    f"https://{SECRET}@host.internal:8443/in.csv?a=b",
    f"https://host.internal/in.csv#access_token={SECRET}",
    f"s3://key:{SECRET}@bucket/in.csv",
    f"simplecache::https://user:{SECRET}@host/in.csv",
    f"zip://in.csv::https://host/a.zip?sig={SECRET}",
    f"ftp://u:{SECRET}@[::1]:21/in.csv",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_shown_without_its_secrets(url: str) -> None:
    assert SECRET not in shown_name(url)
    assert SECRET not in without_secrets(f"403 for url='{url}' (again: {url})", url)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("s3://bucket/a@b/in.csv", "s3://bucket/a@b/in.csv"),
        ("https://host:8443/in.csv?a=b", "https://host:8443/in.csv?…"),
        ("visits/2024?.csv", "visits/2024?.csv"),
        ("simplecache::s3://bucket/in.csv", "simplecache::s3://bucket/in.csv"),
        ("http://[::1]:8080/in.csv", "http://[::1]:8080/in.csv"),
    ],
)
def test_a_name_is_shown_with_what_helps(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@pytest.mark.parametrize("url", URLS)
def test_an_error_about_a_file_quotes_no_secret(url: str) -> None:
    refused = FileRefused(Code.FILE, url, f"it cannot be read: {url}")
    assert SECRET not in "".join(traceback.format_exception(refused))
    assert SECRET not in repr((refused.path, refused.message, refused.args))


def test_what_a_library_says_of_a_url_is_no_cause() -> None:
    url = f"memory://nowhere/in.csv?token={SECRET}"
    with pytest.raises(FileRefused) as reading:
        open_source(url)
    with pytest.raises(FileRefused) as sending, writing(url):
        raise RuntimeError(url)
    for refused in (reading.value, sending.value):
        assert SECRET not in "".join(traceback.format_exception(refused))


def test_an_output_to_a_url_grows_under_a_name_without_its_secrets(tmp_path: Path) -> None:
    target = Target(f"memory://out/out.csv?token={SECRET}", str(tmp_path))
    names = {str(value) for name, value in vars(target).items() if name != "name"}
    assert not [name for name in names if SECRET in name]
    ((_, into),) = outputs_for([f"https://in.internal/in.csv?token={SECRET}"], str(tmp_path))
    assert SECRET not in into


@given(st.text())
def test_no_text_steers_a_terminal_or_begins_a_line(text: str) -> None:
    assert not STEERING.search(shown_text(text))
    assert len(shown_text(text, in_line=True).splitlines()) <= 1
    if text.isprintable():
        assert shown_text(text) == text


@given(st.text())
def test_no_error_of_ours_steers_a_terminal(text: str) -> None:
    assert not STEERING.search(str(ScorelineError(text)))
    refused = FileRefused(Code.FILE, text, "why")
    assert len(str(refused).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/srv/store/m/00000003.json: it is not signed", "…/00000003.json: it is not signed"),
        ("known (in /etc/keys).", "known (in …/keys)."),
        ("s3://bucket/models/m/1, 3/4 of and/or", "…/1, 3/4 of and/or"),
        ("open '~/a/b.csv': ./c/d.py", "open '…/b.csv': …/d.py"),
        ("in /home/my store/keys: no", "in …/keys: no"),
        ("features.py:4 is called", "features.py:4 is called"),
    ],
)
def test_a_text_for_others_names_no_place(text: str, told: str) -> None:
    assert without_places(text, ["/home/my store"]) == told
