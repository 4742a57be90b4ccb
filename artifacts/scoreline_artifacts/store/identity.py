"""The identity of a store: what is signed for one store is no version and no release of another.

The first publish or promote creates `.store.json`: a random number, signed. Its sha256 is the store's identity,
which every version and every release names from then on. A machine keeps the identity that it saw first under a
store's address, beside the keys that it trusts; another one under the same address is refused until somebody says
`scoreline accept`.

The files that earlier releases of Scoreline wrote name no store. `.store.json` lists them by sha256, once, when it is
made. So an old copy or another store's old version cannot come back later, and a log that began before goes on, but
never back to entries that name no store.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scoreline_artifacts.errors import (
    CorruptArtifact,
    Distrust,
    StoreReplaced,
    UntrustedArtifact,
)
from scoreline_artifacts.manifest import MANIFEST
from scoreline_artifacts.store.signing import REPAIR, KeyRing, PinnedStore, Purpose
from scoreline_artifacts.store.storage import MANIFEST_LIMIT_BYTES, Storage
from scoreline_client.protocol.names import is_name

IDENTITY = ".store.json"
"""Begins with a dot, so that it is no model's name."""
_FOREIGN = (
    "`scoreline copy` brings a version of another store here on purpose, signed anew. What an earlier Scoreline "
    "published or promoted here since this store has its identity must be published or promoted again."
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a store is."""

    id: str
    """sha256 of the signed line, 64 hexadecimal digits."""
    adopted: Mapping[str, str] | None
    """sha256 of each manifest and release that names no store, by path; None if the store's signer is not trusted."""


def read_identity(storage: Storage, ring: KeyRing, *, accept: bool = False) -> Identity | None:
    """Who this store is; None for a store of earlier releases, to which nothing was added since.

    `accept` makes it the identity that is known here under the store's address, whatever was known before.

    The key that signed the identity need not be trusted here. If it is not, the list of the identity is ignored, and
    files that name no store are judged as if there were no identity: its signer must not take away what serves.

    Raises:
        StoreReplaced: another one is known here under this address.
        UntrustedArtifact, CorruptArtifact: it is not signed, or not an identity.
    """
    address = address_of(storage)
    pinned = None if accept else ring.pinned_store(address)
    try:
        data = storage.read(IDENTITY, limit_bytes=MANIFEST_LIMIT_BYTES)
    except FileNotFoundError:
        if pinned is not None:
            raise StoreReplaced(address, pinned.identity, None) from None
        if accept:
            ring.pin_store(address, None)
        return None
    line, _, signature = data.partition(b"\n")
    identity = hashlib.sha256(line).hexdigest()
    if pinned is not None and pinned.identity != identity:
        raise StoreReplaced(address, pinned.identity, identity)
    # Once it was verified it is believed, though the key that signed it may have been revoked since.
    is_signed = pinned is not None and pinned.is_signed
    if not is_signed:
        distrust = _verify(storage, ring, line, signature)
        is_signed = distrust is None
        if distrust is not Distrust.NO_KEYS and (pinned is None or is_signed):
            ring.pin_store(address, PinnedStore(identity, is_signed))
    try:
        return Identity(identity, dict(json.loads(line)["adopted"]) if is_signed else None)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"it cannot be read: {error}"
        raise CorruptArtifact(storage.location(IDENTITY), reason) from error


def make_identity(storage: Storage, ring: KeyRing) -> Identity:
    """Who this store is; gives it an identity for ever, if it has none yet.

    Raises:
        StoreReplaced: another one is known here under this address, and this one is not empty.
        UnusableKey: it cannot be signed.
    """
    is_empty = not any(is_name(name) for name in storage.names(""))
    try:
        identity = read_identity(storage, ring)
    except StoreReplaced as error:
        # Whoever empties a store to begin it anew knows it; content may be another store's.
        if not is_empty or error.found is not None:
            raise
        identity = None
    if identity is not None:
        pinned = ring.pinned_store(address_of(storage))
        line, _, signature = storage.read(IDENTITY, limit_bytes=MANIFEST_LIMIT_BYTES).partition(
            b"\n"
        )
        # Machines that do not know it yet must be able to verify it, whichever key was revoked since.
        is_pinned = pinned == PinnedStore(hashlib.sha256(line).hexdigest(), is_signed=True)
        if is_pinned and _verify(storage, ring, line, signature) is Distrust.REVOKED_KEY:
            storage.write({IDENTITY: line + b"\n" + ring.sign(Purpose.STORE, line)})
        return identity
    values = {
        "nonce": secrets.token_hex(32),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "adopted": {} if is_empty else dict(_naming_no_store(storage)),
    }
    line = json.dumps(values, sort_keys=True).encode()
    with suppress(FileExistsError):
        storage.create(IDENTITY, line + b"\n" + ring.sign(Purpose.STORE, line))
    identity = read_identity(storage, ring, accept=is_empty)
    if identity is None:
        raise CorruptArtifact(storage.location(IDENTITY), "it was removed while it was made")
    return identity


def check_belongs(
    identity: Identity | None, named: object, storage: Storage, path: str, data: bytes
) -> None:
    """Check that a signed file belongs to this store; `named` is the store that the file names.

    Raises:
        UntrustedArtifact: it was signed for another store.
    """
    if named:
        is_own = identity is not None and named == identity.id
    elif identity is None or identity.adopted is None:
        is_own = True
    else:
        is_own = identity.adopted.get(path) == hashlib.sha256(data).hexdigest()
    if not is_own:
        raise UntrustedArtifact(storage.location(path), Distrust.OTHER_STORE, _FOREIGN)


def address_of(storage: Storage) -> str:
    """The address under which this machine knows a store."""
    root = storage.root
    return os.path.abspath(root) if isinstance(root, Path) else root  # noqa: PTH100 - not resolved: a link may change


def _verify(storage: Storage, ring: KeyRing, line: bytes, signature: bytes) -> Distrust | None:
    """Why a signature is not trusted here, or None if it is.

    Raises:
        UntrustedArtifact: there is no signature, or it does not fit.
    """
    location = storage.location(IDENTITY)
    if not signature:
        raise UntrustedArtifact(location, Distrust.UNSIGNED, REPAIR[Purpose.STORE])
    try:
        ring.verify(Purpose.STORE, line, signature, about=location)
    except UntrustedArtifact as error:
        if error.reason is Distrust.BAD_SIGNATURE:
            raise
        return error.reason
    return None


def _naming_no_store(storage: Storage) -> Iterator[tuple[str, str]]:
    """Path and sha256 of the manifests and releases that earlier releases of Scoreline wrote."""
    for model in filter(is_name, storage.names("")):
        paths: list[str] = []
        with suppress(CorruptArtifact):  # a stray file, or a link, is nobody's model
            folders = storage.names_below(f"{model}/versions")
            paths += [f"{model}/versions/{version}/{MANIFEST}" for version in folders]
            for alias, names in storage.names_below(f"{model}/releases").items():
                paths += [f"{model}/releases/{alias}/{name}" for name in names]
        for path in paths:
            with suppress(CorruptArtifact, FileNotFoundError, ValueError):
                data = storage.read(path, limit_bytes=MANIFEST_LIMIT_BYTES)
                values: Any = json.loads(data.partition(b"\n")[0])
                if isinstance(values, dict) and not values.get("store"):
                    yield path, hashlib.sha256(data).hexdigest()
