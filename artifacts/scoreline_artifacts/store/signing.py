"""Keys and signatures: whose artifacts and releases are believed here.

    <folder>/private.pem                 the key that signs, on a machine that publishes; mode 0600
    <folder>/trusted/<fingerprint>.pem   public keys whose signatures are believed
    <folder>/revoked/<fingerprint>       keys that are not believed any more, trusted or not

The folder is SCORELINE_KEYS, else `scoreline/keys` under the user's configuration; never a part of the
store, since who can write there must not choose who is believed. A worker's folder holds public keys
only. The key pair is made at the first signature, and its public key is trusted where it was made.

What is signed begins with what it is for, so that a signature of one thing is none of another.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from scoreline_artifacts.errors import Distrust, UntrustedArtifact, UnusableKey
from scoreline_artifacts.store.files import write_new, write_over
from scoreline_artifacts.store.pem import (
    fingerprint_of,
    private_pem,
    public_pem,
    read_private,
    read_public,
)

ALGORITHM = "ed25519"
_DOMAIN = b"scoreline signature 1\n"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_SHORTEST = 8
"""Digits of a fingerprint that stand for all of it on the command line."""


class Purpose(StrEnum):
    """What a signature is for."""

    ARTIFACT = "artifact"
    """The bytes of a version's manifest."""
    RELEASE = "release"
    """One entry of a release log."""


REPAIR = {
    Purpose.ARTIFACT: "Publish it again; do not repair it by hand.",
    Purpose.RELEASE: (
        "Promote a version again: a new release follows this one. If nobody whom you trust wrote "
        "this file, find out who did."
    ),
}
"""What to do about something that is not signed, or not rightly."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of a folder."""

    fingerprint: str
    revoked: bool
    signs: bool
    """Whether the private key beside it is this one's."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the key that is said to have made it."""

    key: str
    signature: bytes

    def encode(self) -> bytes:
        """Canonical JSON."""
        text = base64.b64encode(self.signature).decode()
        values = {"algorithm": ALGORITHM, "key": self.key, "signature": text}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Signature:
        """Read what `encode` wrote, to the byte.

        Raises:
            ValueError: anything else, even if it means the same.
        """
        try:
            values = json.loads(data)
            found = cls(str(values["key"]), base64.b64decode(values["signature"]))
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is no signature: {error}") from error
        if found.encode() != data or not _FINGERPRINT.fullmatch(found.key):
            raise ValueError("it is no signature as Scoreline writes it")
        return found


def default_folder() -> Path:
    """The folder that SCORELINE_KEYS names, else `scoreline/keys` under the user's configuration."""
    if named := os.environ.get("SCORELINE_KEYS"):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(  # noqa: PTH118 - "~" may stay as it is
        os.path.expanduser("~"),  # noqa: PTH111 - Path.home() raises where nobody is at home
        ".config",
    )
    return Path(base) / "scoreline" / "keys"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one folder. Nothing is kept in memory: a key that is revoked is so at once."""

    folder: Path

    @classmethod
    def from_environment(cls) -> KeyRing:
        """The ring that SCORELINE_KEYS names, else the user's own."""
        return cls(default_folder())

    def sign(self, purpose: Purpose | str, data: bytes) -> bytes:
        """Sign bytes and return the content of the signature file; makes the key pair at first use.

        Raises:
            UnusableKey: the key cannot be made or read, or was revoked.
        """
        private = self._signing_key()
        fingerprint = fingerprint_of(private.public_key())
        if self._is_revoked(fingerprint):
            raise UnusableKey(
                f"the key that signs here ({fingerprint}) was revoked; "
                "`scoreline keygen --rotate` makes another one"
            )
        self._trust(private.public_key())
        return Signature(fingerprint, private.sign(_message(purpose, data))).encode()

    def verify(
        self, purpose: Purpose | str, data: bytes, signature: bytes, *, about: object = "this"
    ) -> str:
        """Return the fingerprint of the trusted key that signed these bytes for this purpose.

        `signature` is the content of the signature file; `about` is what messages call the thing.

        Raises:
            UntrustedArtifact: there is no such key; the reason and the message say what to do.
            UnusableKey: a file of the folder is not the key that its name says.
        """
        try:
            claimed = Signature.decode(signature)
        except ValueError as error:
            advice = REPAIR[Purpose(purpose)]
            raise UntrustedArtifact(about, Distrust.BAD_SIGNATURE, advice) from error
        public = self._believed(claimed.key, about)
        try:
            public.verify(claimed.signature, _message(purpose, data))
        except InvalidSignature as error:
            advice = REPAIR[Purpose(purpose)]
            raise UntrustedArtifact(about, Distrust.BAD_SIGNATURE, advice, claimed.key) from error
        return claimed.key

    def known(self) -> list[Key]:
        """All keys that are trusted or were revoked, by fingerprint."""
        own = self.own_fingerprint()
        revoked = {name for name in _names(self._revoked) if _FINGERPRINT.fullmatch(name)}
        known = self._trusted_fingerprints() | revoked
        return [Key(one, one in revoked, one == own) for one in sorted(known)]

    def own_fingerprint(self) -> str | None:
        """Fingerprint of the key that signs here, or None where nothing was ever signed."""
        private = self._read_private()
        return None if private is None else fingerprint_of(private.public_key())

    def generate(self, *, rotate: bool = False) -> tuple[str, bool]:
        """Make the key pair if there is none, or another one to sign with from now on.

        The public key of the one before stays trusted: what it signed goes on being believed here.
        Returns the fingerprint of the key that signs now, and whether it is new.

        Raises:
            UnusableKey: it cannot be made.
        """
        before = self.own_fingerprint()
        if before is not None and not rotate:
            return before, False
        if before is None:
            return fingerprint_of(self._signing_key().public_key()), True
        private = Ed25519PrivateKey.generate()
        self._trust(private.public_key())
        with _explained(self._private):
            write_over(self._private, private_pem(private), mode=0o600)
        return fingerprint_of(private.public_key()), True

    def trust(self, pem: bytes) -> str:
        """Believe what a public key signs from now on; returns its fingerprint.

        Raises:
            UnusableKey: it is no Ed25519 public key, or was revoked here.
        """
        public = read_public(pem, "the key")
        fingerprint = fingerprint_of(public)
        if self._is_revoked(fingerprint):
            raise UnusableKey(
                f"key {fingerprint} was revoked here and stays so; to believe it again, first "
                f"remove {self._revoked / fingerprint}"
            )
        self._trust(public)
        return fingerprint

    def revoke(self, fingerprint: str) -> str:
        """Believe a key no longer, here; the first digits of its fingerprint are enough for a known one.

        Raises:
            UnusableKey: no known key, or several, begin like this.
        """
        found = self.find(fingerprint)
        with _explained(self._revoked):
            self._prepare(self._revoked)
            with contextlib.suppress(FileExistsError):
                write_new(self._revoked / found, b"")
        return found

    def export(self, fingerprint: str | None = None) -> bytes:
        """A trusted public key as PEM, to be trusted elsewhere; the one that signs if none is named.

        Raises:
            UnusableKey: there is none.
        """
        wanted = self.own_fingerprint() if fingerprint is None else self.find(fingerprint)
        if wanted is None:
            raise UnusableKey(f"there is no key in {self.folder} yet; `scoreline keygen` makes one")
        path = self._trusted / f"{wanted}.pem"
        with _explained(path):
            return path.read_bytes()

    def find(self, beginning: str) -> str:
        """The fingerprint that begins like this; a whole one need not be known.

        Raises:
            UnusableKey: none or several do.
        """
        if _FINGERPRINT.fullmatch(beginning):
            return beginning
        known = [key.fingerprint for key in self.known()]
        found = [one for one in known if one.startswith(beginning)]
        if len(beginning) < _SHORTEST or len(found) != 1:
            raise UnusableKey(
                f"{beginning!r} does not name one key of {self.folder}; give the fingerprint, or at "
                f"least its first {_SHORTEST} digits. Keys there: {', '.join(known) or 'none'}"
            )
        return found[0]

    @property
    def _private(self) -> Path:
        return self.folder / "private.pem"

    @property
    def _trusted(self) -> Path:
        return self.folder / "trusted"

    @property
    def _revoked(self) -> Path:
        return self.folder / "revoked"

    def _believed(self, fingerprint: str, about: object) -> Ed25519PublicKey:
        if self._is_revoked(fingerprint):
            advice = "Publish or promote it again with another key; see `scoreline keys`."
            raise UntrustedArtifact(about, Distrust.REVOKED_KEY, advice, fingerprint)
        path = self._trusted / f"{fingerprint}.pem"
        try:
            public = read_public(path.read_bytes(), path)
        except FileNotFoundError as error:
            anybody = self._trusted_fingerprints()
            reason = Distrust.UNKNOWN_KEY if anybody else Distrust.NO_KEYS
            advice = (
                "If you trust who published it: `scoreline keys show` there prints the public key, "
                f"`scoreline keys trust FILE` here makes it known (in {self.folder})."
            )
            raise UntrustedArtifact(about, reason, advice, fingerprint) from error
        except OSError as error:
            raise UnusableKey(f"{path} cannot be read: {error.strerror}") from error
        if fingerprint_of(public) != fingerprint:
            raise UnusableKey(f"{path} is not the key that its name says; remove it")
        return public

    def _trusted_fingerprints(self) -> set[str]:
        names = {Path(name).stem for name in _names(self._trusted) if name.endswith(".pem")}
        return {name for name in names if _FINGERPRINT.fullmatch(name)}

    def _is_revoked(self, fingerprint: str) -> bool:
        with _explained(self._revoked):
            return _exists(self._revoked / fingerprint)

    def _trust(self, public: Ed25519PublicKey) -> None:
        path = self._trusted / f"{fingerprint_of(public)}.pem"
        with _explained(path):
            if _exists(path):
                return
            self._prepare(self._trusted)
            with contextlib.suppress(FileExistsError):
                write_new(path, public_pem(public))

    def _signing_key(self) -> Ed25519PrivateKey:
        """The private key, made if there is none. Of several processes that make one at the same
        moment one is first, and the others use what it made."""
        private = self._read_private()
        if private is not None:
            return private
        with _explained(self._private):
            self._prepare(self.folder)
            with contextlib.suppress(FileExistsError):
                made = private_pem(Ed25519PrivateKey.generate())
                write_new(self._private, made, mode=0o600)
        private = self._read_private()
        if private is None:
            raise UnusableKey(f"{self._private} was removed while it was made")
        self._trust(private.public_key())
        return private

    def _read_private(self) -> Ed25519PrivateKey | None:
        with _explained(self._private):
            try:
                descriptor = os.open(self._private, os.O_RDONLY)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise UnusableKey(
                        f"{self._private} can be read by others (mode {mode:04o}), so anybody may "
                        f"have signed with it: `scoreline keygen --rotate` after removing it, or, if "
                        f"you are sure of it, `chmod 600 {self._private}`"
                    )
                pem = file.read()
        return read_private(pem, self._private)

    def _prepare(self, folder: Path) -> None:
        # One after the other: mkdir gives its mode to the last one only.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def _message(purpose: Purpose | str, data: bytes) -> bytes:
    return _DOMAIN + Purpose(purpose).encode() + b"\n" + data


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Tell an OSError as a key that cannot be used."""
    try:
        yield
    except OSError as error:
        raise UnusableKey(f"{path} cannot be used: {error.strerror}") from error


def _names(folder: Path) -> list[str]:
    with _explained(folder):
        try:
            return [one.name for one in folder.iterdir()]
        except FileNotFoundError:
            return []


def _exists(path: Path) -> bool:
    """Unlike Path.exists, an error is one: a folder that cannot be read says nothing of its keys."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True
