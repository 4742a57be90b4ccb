"""Keys and signatures: whose artifacts and releases are trusted here.

    <folder>/private.pem                 the key that signs, on a machine that publishes; mode 0600
    <folder>/trusted/<fingerprint>.pem   public keys whose signatures are trusted
    <folder>/trusted/<fingerprint>.json  for which models and aliases, if not for all
    <folder>/revoked/<fingerprint>       keys that are not trusted any more, even if they are in trusted/
    <folder>/stores/<hash of address>    which store is known under an address, see identity.py

The folder is SCORELINE_KEYS, else `scoreline/keys` under the user's configuration; never a part of the
store, since who can write there must not choose who is trusted; for the same reason nobody but their owner may
write to the folder and its keys. A worker's folder holds public keys only. The key pair is made at the first
signature, unless others' keys are trusted there already, and its public key is trusted where it was made.

What is signed begins with its purpose, so that a signature of one thing is never valid for another.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from scoreline_artifacts.errors import Distrust, UntrustedArtifact, UnusableKey
from scoreline_artifacts.store.local_files import write_file
from scoreline_client.settings import KEYS, ArtifactSettings, user_folder
from scoreline_client.shown import shown_name

logger = logging.getLogger(__name__)

ALGORITHM = "ed25519"
_DOMAIN = b"scoreline signature 1\n"
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_SHORTEST = 8
"""Digits of a fingerprint that stand for all of it on the command line."""
_SIGNED = "signed"
_OTHER_KIND = "is not an Ed25519 key, and Scoreline signs with no other"


class Purpose(StrEnum):
    """What a signature is for."""

    ARTIFACT = "artifact"
    """The bytes of a version's manifest."""
    RELEASE = "release"
    """One entry of a release log."""
    STORE = "store"
    """Who a store is, see identity.py."""
    EXPORT = "export"
    """The proof of a file that a version was exported to, which binds the file's bytes."""


REPAIR = {
    Purpose.ARTIFACT: "Publish it again; do not repair it by hand.",
    Purpose.RELEASE: (
        "Promote a version again: a new release follows this one. If nobody whom you trust wrote "
        "this file, find out who did."
    ),
    Purpose.STORE: "Put the file back as it was: signed anew it would be another store's.",
    Purpose.EXPORT: "Export the version again; do not use the file.",
}
"""What to do about something without a valid signature."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of a folder."""

    fingerprint: str
    revoked: bool
    signs: bool
    """Whether its private key is in the folder too."""
    limits: KeyLimits


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key is trusted for: a name must match one of the patterns, such as `fraud-*`; no pattern: all names."""

    models: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def allow(self, model: str | None, alias: str | None) -> bool:
        """Whether a signature about this model, and this alias if one is named, is trusted."""
        return all(
            name is None or not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
            for name, patterns in ((model, self.models), (alias, self.aliases))
        )

    def __str__(self) -> str:
        """As it is listed."""
        limits = (("models", self.models), ("aliases", self.aliases))
        return "; ".join(f"{kind} {', '.join(patterns)}" for kind, patterns in limits if patterns)


@dataclass(frozen=True, slots=True)
class PinnedStore:
    """The store that is known under an address."""

    identity: str
    is_signed: bool
    """Whether a key that was trusted then had signed the identity, with what it lists."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, and the key that claims to have made it."""

    key: str
    signature: bytes

    def encode(self) -> bytes:
        """Canonical JSON."""
        text = base64.b64encode(self.signature).decode()
        values = {"algorithm": ALGORITHM, "key": self.key, "signature": text}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Signature:
        """Read exactly the bytes that `encode` writes.

        Raises:
            ValueError: the bytes are anything else, even another spelling of the same.
        """
        try:
            values = json.loads(data)
            signature = cls(str(values["key"]), base64.b64decode(values["signature"]))
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a signature: {error}") from error
        if signature.encode() != data or not _FINGERPRINT.fullmatch(signature.key):
            raise ValueError("not a signature as Scoreline writes it")
        return signature


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of one folder. Nothing is kept in memory: a revoked key is refused at once."""

    folder: Path

    def __post_init__(self) -> None:
        _folders.add(self.folder)

    @classmethod
    def from_environment(cls) -> KeyRing:
        """The ring that SCORELINE_KEYS names, else the user's own.

        Raises:
            SettingsError: it names none, and the user has no home directory.
        """
        return cls(Path(ArtifactSettings.from_environment().key_folder))

    def sign(self, purpose: Purpose | str, data: bytes) -> bytes:
        """Sign bytes and return the content of the signature file; makes the key pair at first use.

        Raises:
            UnusableKey: the key cannot be made or read, or was revoked; or others' keys are trusted here and
                none signs, as on a worker.
        """
        # Read twice: another process that makes the key at this moment writes it before it trusts it.
        may_sign = self._read_private() or not self._trusted_fingerprints() or self._read_private()
        if not may_sign:
            raise UnusableKey(
                f"{self.folder} trusts keys and has none that signs, as on a worker: publish, promote and roll back "
                "where the private key is; or make one here (`scoreline keygen`) and trust it on every worker"
            )
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
        self,
        purpose: Purpose | str,
        data: bytes,
        signature: bytes,
        *,
        about: object = "this",
        model: str | None = None,
        alias: str | None = None,
    ) -> str:
        """Return the fingerprint of the trusted key that signed these bytes for this purpose.

        `signature` is the content of the signature file; `about` is how messages name what was signed. `model` and
        `alias` are what it is about: a key may be trusted for some only.

        Raises:
            UntrustedArtifact: there is no such key; the reason and the message say what to do.
            UnusableKey: a file of the folder is not the key that its name says.
        """
        advice = REPAIR[Purpose(purpose)]
        try:
            claimed = Signature.decode(signature)
        except ValueError as error:
            raise UntrustedArtifact(about, Distrust.BAD_SIGNATURE, advice) from error
        public = self._trusted_key(claimed.key, about)
        try:
            public.verify(claimed.signature, _message(purpose, data))
        except InvalidSignature as error:
            raise UntrustedArtifact(about, Distrust.BAD_SIGNATURE, advice, claimed.key) from error
        limits = self.limits(claimed.key)
        if not limits.allow(model, alias):
            advice = (
                f"It is trusted for {limits}; `scoreline keys trust` with other names changes that."
            )
            raise UntrustedArtifact(about, Distrust.OTHER_NAME, advice, claimed.key)
        return claimed.key

    def known(self) -> list[Key]:
        """All keys that are trusted or were revoked, by fingerprint."""
        own = self.own_fingerprint()
        revoked = {name for name in _names(self._revoked) if _FINGERPRINT.fullmatch(name)}
        return [
            Key(fingerprint, fingerprint in revoked, fingerprint == own, self.limits(fingerprint))
            for fingerprint in sorted(self._trusted_fingerprints() | revoked)
        ]

    def own_fingerprint(self) -> str | None:
        """Fingerprint of the key that signs here, or None where nothing was ever signed."""
        private = self._read_private()
        return None if private is None else fingerprint_of(private.public_key())

    def generate(self, *, rotate: bool = False) -> tuple[str, bool]:
        """Make the key pair if there is none, or another one to sign with from now on.

        The earlier public key stays trusted: what it signed goes on being trusted here.
        Returns the fingerprint of the key that signs now, and whether it is new.

        Raises:
            UnusableKey: it cannot be made.
        """
        current = self.own_fingerprint()
        if current is None:
            return fingerprint_of(self._signing_key().public_key()), True
        if not rotate:
            return current, False
        private = Ed25519PrivateKey.generate()
        self._trust(private.public_key())
        with _as_unusable_key(self._private):
            write_file(self._private, _pem_of(private), mode=0o600)
        return fingerprint_of(private.public_key()), True

    def trust(self, pem: bytes, *, models: Iterable[str] = (), aliases: Iterable[str] = ()) -> str:
        """Trust what a public key signs from now on; returns its fingerprint.

        `models` and `aliases` are names or patterns such as `fraud-*`: its artifacts are then trusted for these models
        only, its releases for these aliases of them. They replace the limits that it had; without any it is trusted
        for all names.

        Raises:
            UnusableKey: it is not an Ed25519 public key, or was revoked here.
        """
        public = _public_key(pem, "the key")
        fingerprint = fingerprint_of(public)
        if self._is_revoked(fingerprint):
            raise UnusableKey(
                f"key {fingerprint} was revoked here and stays so; to trust it again, first "
                f"remove {self._revoked / fingerprint}"
            )
        limits = KeyLimits(tuple(models), tuple(aliases))
        path = self._limits(fingerprint)
        # Before the key: it is trusted for no name too many, not even for a moment.
        if limits != KeyLimits() or _exists(path):
            with _as_unusable_key(path):
                self._make_folders_of(path)
                write_file(path, json.dumps(asdict(limits)).encode())
        self._trust(public)
        return fingerprint

    def limits(self, fingerprint: str) -> KeyLimits:
        """The limits of a key, whether it is trusted or not.

        Raises:
            UnusableKey: the file that says so cannot be read.
        """
        path = self._limits(fingerprint)
        with _as_unusable_key(path):
            try:
                check_rights(path)
                values = json.loads(path.read_bytes())
                patterns = (values["models"], values["aliases"])
                return KeyLimits(*(tuple(map(str, kind)) for kind in patterns))
            except FileNotFoundError:
                return KeyLimits()
            except (ValueError, TypeError, KeyError) as error:
                raise UnusableKey(
                    f"{path} does not say what the key is trusted for: {error}"
                ) from error

    def pinned_store(self, address: str) -> PinnedStore | None:
        """The store that is known here under an address, if one is."""
        path = self._pin(address)
        with _as_unusable_key(path):
            try:
                self._check_rights_down_to(path)
                identity, known_address, trust = path.read_text().splitlines()
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise UnusableKey(f"{path} does not say which store is known: {error}") from error
        store = PinnedStore(identity, trust == _SIGNED)
        if known_address != shown_name(address):  # by an earlier release, with a URL's secrets
            self.pin_store(address, store)
        return store

    def pin_store(self, address: str, store: PinnedStore | None) -> None:
        """Know a store under an address from now on; None: none is known.

        A folder that cannot be written to, such as a mounted secret, is a warning.
        """
        path = self._pin(address)
        try:
            if store is None:
                path.unlink(missing_ok=True)
                return
            self._make_folders_of(path)
            trust = _SIGNED if store.is_signed else "seen"
            write_file(path, f"{store.identity}\n{shown_name(address)}\n{trust}\n".encode())
        except OSError as error:
            if path not in _unpinned:  # warned of once, not at every look at the store
                _unpinned.add(path)
                logger.warning(
                    "store_not_pinned path=%s: %s; another store under this address goes unnoticed",
                    path,
                    error.strerror,
                )

    def revoke(self, fingerprint: str) -> str:
        """Trust a key no longer, here; the first digits of its fingerprint are enough for a known one.

        Raises:
            UnusableKey: no known key, or several, begin like this.
        """
        fingerprint = self.find(fingerprint)
        self._add(self._revoked / fingerprint, b"")
        return fingerprint

    def export(self, fingerprint: str | None = None) -> bytes:
        """A trusted public key as PEM, to be trusted elsewhere; the one that signs if none is named.

        Raises:
            UnusableKey: there is none.
        """
        fingerprint = self.own_fingerprint() if fingerprint is None else self.find(fingerprint)
        if fingerprint is None:
            raise UnusableKey(f"there is no key in {self.folder} yet; `scoreline keygen` makes one")
        path = self._trusted / f"{fingerprint}.pem"
        with _as_unusable_key(path):
            return path.read_bytes()

    def find(self, beginning: str) -> str:
        """The fingerprint that begins like this; a whole one need not be known.

        Raises:
            UnusableKey: none or several do.
        """
        if _FINGERPRINT.fullmatch(beginning):
            return beginning
        fingerprints = [key.fingerprint for key in self.known()]
        matches = [fingerprint for fingerprint in fingerprints if fingerprint.startswith(beginning)]
        if len(beginning) < _SHORTEST or len(matches) != 1:
            raise UnusableKey(
                f"{beginning!r} does not name one key of {self.folder}; give the fingerprint, or at "
                f"least its first {_SHORTEST} digits. Keys there: {', '.join(fingerprints) or 'none'}"
            )
        return matches[0]

    @property
    def _private(self) -> Path:
        return self.folder / "private.pem"

    @property
    def _trusted(self) -> Path:
        return self.folder / "trusted"

    @property
    def _revoked(self) -> Path:
        return self.folder / "revoked"

    def _limits(self, fingerprint: str) -> Path:
        return self._trusted / f"{fingerprint}.json"

    def _pin(self, address: str) -> Path:
        return self.folder / "stores" / hashlib.sha256(address.encode()).hexdigest()[:32]

    def _trusted_key(self, fingerprint: str, about: object) -> Ed25519PublicKey:
        if self._is_revoked(fingerprint):
            advice = "Publish or promote it again with another key; see `scoreline keys`."
            raise UntrustedArtifact(about, Distrust.REVOKED_KEY, advice, fingerprint)
        path = self._trusted / f"{fingerprint}.pem"
        with _as_unusable_key(path):
            try:
                self._check_rights_down_to(path)
                public = _public_key(path.read_bytes(), path)
            except FileNotFoundError as error:
                reason = Distrust.UNKNOWN_KEY if self._trusted_fingerprints() else Distrust.NO_KEYS
                advice = (
                    "If you trust who published it: `scoreline keys show` there prints the public "
                    f"key, `scoreline keys trust FILE` here makes it known (in {self.folder})."
                )
                raise UntrustedArtifact(about, reason, advice, fingerprint) from error
        if fingerprint_of(public) != fingerprint:
            raise UnusableKey(f"{path} is not the key that its name says; remove it")
        return public

    def _trusted_fingerprints(self) -> set[str]:
        names = {Path(name).stem for name in _names(self._trusted) if name.endswith(".pem")}
        return {name for name in names if _FINGERPRINT.fullmatch(name)}

    def _is_revoked(self, fingerprint: str) -> bool:
        return _exists(self._revoked / fingerprint)

    def _trust(self, public: Ed25519PublicKey) -> None:
        path = self._trusted / f"{fingerprint_of(public)}.pem"
        if not _exists(path):
            pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            self._add(path, pem)

    def _add(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Create a file of the folder, unless another process has just done so."""
        with _as_unusable_key(path):
            self._make_folders_of(path)
            with contextlib.suppress(FileExistsError):
                write_file(path, data, mode=mode, exclusive=True)

    def _make_folders_of(self, path: Path) -> None:
        # One after the other: mkdir gives its mode to the last one only.
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _check_rights_down_to(self, path: Path) -> None:
        for guarded in (self.folder, path.parent, path):
            check_rights(guarded)

    def _signing_key(self) -> Ed25519PrivateKey:
        """The private key, made if there is none.

        Of several processes that make one at the same moment, all use the one that was written first.
        """
        private = self._read_private()
        if private is not None:
            return private
        self._add(self._private, _pem_of(Ed25519PrivateKey.generate()), mode=0o600)
        private = self._read_private()
        if private is None:
            raise UnusableKey(f"{self._private} was removed while it was made")
        self._trust(private.public_key())
        return private

    def _read_private(self) -> Ed25519PrivateKey | None:
        with _as_unusable_key(self._private):
            try:
                file = self._private.open("rb")
            except FileNotFoundError:
                return None
            with file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise UnusableKey(
                        f"{self._private} can be read by others (mode {mode:04o}), so anybody may "
                        f"have signed with it: `scoreline keygen --rotate` after removing it, or, if "
                        f"you are sure of it, `chmod 600 {self._private}`"
                    )
                pem = file.read()
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UnusableKey(f"{self._private} is not a private key: {error}") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise UnusableKey(f"{self._private} {_OTHER_KIND}")
        return private


_unpinned: set[Path] = set()
_folders: set[Path] = set()
"""The folders of the rings that this process has made."""


def key_folders() -> set[Path]:
    """The folders of keys that this process knows: of its rings, and the user's own."""
    return _folders | {Path(folder) for folder in (user_folder(*KEYS),) if folder}


def fingerprint_of(public: Ed25519PublicKey) -> str:
    """32 hexadecimal digits: half of the sha256 of the raw public key."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:32]


def check_rights(path: Path) -> None:
    """Check that nobody but its owner can change what is trusted.

    Raises:
        UnusableKey: others can.
    """
    info, parent = path.stat(), path.parent.stat()
    owners = (0, os.geteuid(), parent.st_uid)
    if parent.st_mode & stat.S_ISVTX and info.st_uid not in owners:
        raise UnusableKey(f"{path} belongs to another user, in a folder that all may write to")
    mode = stat.S_IMODE(info.st_mode)
    is_sticky = stat.S_ISDIR(info.st_mode) and mode & stat.S_ISVTX
    # Many systems give each user a group of their own: its rights are the user's.
    others = 0o002 if info.st_gid == os.getegid() else 0o022
    is_mounted = os.statvfs(path).f_flag & os.ST_RDONLY
    if mode & others and not is_sticky and not is_mounted:
        raise UnusableKey(
            f"{path} can be written by others (mode {mode:04o}), so anybody may have chosen who is trusted: "
            f"look at `scoreline keys`, then `chmod go-w {path}`"
        )


def _message(purpose: Purpose | str, data: bytes) -> bytes:
    return _DOMAIN + Purpose(purpose).encode() + b"\n" + data


def _public_key(pem: bytes, about: object) -> Ed25519PublicKey:
    try:
        public = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKey(
            f"{about} is not a public key; `scoreline keys show` where it signs prints it"
        ) from error
    if not isinstance(public, Ed25519PublicKey):
        raise UnusableKey(f"{about} {_OTHER_KIND}")
    return public


def _pem_of(private: Ed25519PrivateKey) -> bytes:
    """A private key as PEM, not encrypted: the file's mode protects it."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextlib.contextmanager
def _as_unusable_key(path: Path) -> Iterator[None]:
    """Raise an OSError as a key that cannot be used."""
    try:
        yield
    except OSError as error:
        raise UnusableKey(f"{path} cannot be used: {error.strerror}") from error


def _names(folder: Path) -> list[str]:
    with _as_unusable_key(folder):
        try:
            return [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []


def _exists(path: Path) -> bool:
    """Unlike Path.exists, raises if the folder cannot be read: it says nothing of its keys then."""
    with _as_unusable_key(path):
        try:
            path.lstat()
        except FileNotFoundError:
            return False
    return True
