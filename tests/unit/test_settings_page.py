"""docs/settings.md says what the code says, and callers know the names of all settings."""

from __future__ import annotations

from dataclasses import fields

from scoreline_client.settings import OF_OTHER_PACKAGES, ClientSettings
from tests.support.settings_page import KINDS, PAGE, page, sentences


def test_the_page_of_settings_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make settings"


def test_every_setting_has_a_sentence() -> None:
    said = {name for kind, _ in KINDS for name in sentences(kind)}
    assert said == {each.name for kind, _ in KINDS for each in fields(kind)}


def test_callers_know_the_settings_of_other_packages_by_name() -> None:
    of_client = {each.name for each in fields(ClientSettings)}
    others = {each.name for kind, _ in KINDS[2:] for each in fields(kind)} - of_client
    assert others == OF_OTHER_PACKAGES
