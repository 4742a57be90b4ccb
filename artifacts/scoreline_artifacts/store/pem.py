"""Ed25519 keys as PEM, and the fingerprints that they are called by."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
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

from scoreline_artifacts.errors import UnusableKey


def fingerprint_of(public: Ed25519PublicKey) -> str:
    """32 hexadecimal digits: half of the sha256 of the raw public key."""
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:32]


def read_private(pem: bytes, about: object) -> Ed25519PrivateKey:
    """A private key from its PEM.

    Raises:
        UnusableKey: it is none, or of another kind.
    """
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKey(f"{about} is no private key: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UnusableKey(f"{about} is no Ed25519 key, and Scoreline signs with no other")
    return private


def read_public(pem: bytes, about: object) -> Ed25519PublicKey:
    """A public key from its PEM.

    Raises:
        UnusableKey: it is none, or of another kind.
    """
    try:
        public = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableKey(
            f"{about} is no public key; `scoreline keys show` where it signs prints it"
        ) from error
    if not isinstance(public, Ed25519PublicKey):
        raise UnusableKey(f"{about} is no Ed25519 key, and Scoreline signs with no other")
    return public


def public_pem(public: Ed25519PublicKey) -> bytes:
    """A public key as PEM."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(private: Ed25519PrivateKey) -> bytes:
    """A private key as PEM, not encrypted: the file's mode protects it."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
