"""Text of others, and names that may hold secrets, as they may be printed and logged."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal, change the direction of text, or are no text at all; a line feed is not among them."""
_LINE_ENDS = re.compile("[\n\u2028\u2029]")


def shown_text(text: str, *, in_line: bool = False) -> str:
    """A text that others may have written, with control characters as escapes.

    With `in_line`, line ends are escapes, too: it must not begin a line of its own, in a log for one.
    """
    text = _STEERING.sub(_escaped, text)
    return _LINE_ENDS.sub(_escaped, text) if in_line else text


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table for a notebook; every text in it is escaped."""

    def cells(tag: str, values: Iterable[object]) -> str:
        texts = (html.escape(shown_text(str(value))) for value in values)
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

    caption = html.escape(shown_text(title))
    body = "".join(cells("td", row) for row in rows)
    return f"<table><caption>{caption}</caption>{cells('th', columns)}{body}</table>"


def shown_url(url: str) -> str:
    """A URL of a server as it may be shown and logged: without user, password and options."""
    scheme, separator, location = url.partition("://") if "://" in url else ("", "", url)
    address = location.rpartition("@")[2].partition("?")[0]
    # Behind a question mark it may be the end of a password.
    is_certain = "@" not in location.partition("?")[2]
    return f"{scheme}{separator}{address if is_certain else '…'}"


def shown_name(name: str) -> str:
    """The name of a file or a store as it may be shown: a URL without user, password and options.

    Options may be a token or a signature; that there are any is shown as `?…`.
    """
    # fsspec joins URLs by two colons.
    return "::".join(map(_shown_link, re.split(r"::(?=[A-Za-z][\w+.-]*(?:://|::))", name)))


def _shown_link(url: str) -> str:
    scheme, separator, location = url.partition("://")
    if not separator:
        return url
    address, question_mark, options = location.partition("?")
    host, slash, path = address.partition("/")
    # A sign of URLs in a password ends the host too early; what looks like a port is none then.
    is_torn = "@" in path + options or not host.rpartition(":")[2].isdecimal()
    if "@" not in host and ":" in host.rpartition("]")[2] and is_torn:
        if "@" in options:
            return f"{scheme}://…"
        host, slash, path = path.rpartition("@")[2].partition("/")
    if scheme in ("http", "https"):
        path = path.partition("#")[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{'?…' if question_mark else ''}"


def without_secrets(text: str, name: str = "") -> str:
    """A text of others, such as a library's error about the file `name`, with each URL in it as it may be shown."""
    text = re.sub(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+", lambda match: shown_name(match[0]), text)
    options = name.partition("?")[2] if "://" in name else ""
    return text.replace(options, "…") if options else text


_LOCATION = re.compile(r"""(?:[A-Za-z][\w+.-]*://|(?<![\w/.~-])[~.]{0,2}/)[^\s:;,'"()<>]+""")
"""A URL, or the path of a file: it begins with a slash, unlike `and/or`."""


def without_places(text: str, places: Iterable[str] = ()) -> str:
    """A text without paths and URLs, but for their last parts, for those who need not know where things are.

    `places` are names that stand in it, whatever is in them, such as spaces.
    """
    # The longest first: one may be in another.
    for name in sorted(filter(None, places), key=len, reverse=True):
        text = text.replace(name, "/…")
    return _LOCATION.sub(lambda match: "…/" + match[0].rstrip("/").rpartition("/")[2], text)
