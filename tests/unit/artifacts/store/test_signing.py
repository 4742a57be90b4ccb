"""Keys and signatures: what is believed, what is refused, and who may read what."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as other_kind
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from scoreline_artifacts import Distrust, UntrustedArtifact, UnusableKey
from scoreline_artifacts.store.marks import LogMarks
from scoreline_artifacts.store.signing import KeyRing, PinnedStore, Purpose
from scoreline_client.errors import SettingsError

DATA = b'{"model":"pima"}'
ARTIFACT, RELEASE = Purpose.ARTIFACT, Purpose.RELEASE


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """The ring of who publishes."""
    return KeyRing(tmp_path / "config" / "publisher")


@pytest.fixture
def worker(tmp_path: Path) -> KeyRing:
    """The ring of a worker that trusts nobody yet."""
    return KeyRing(tmp_path / "worker")


def _refusal(ring: KeyRing, data: bytes, signature: bytes, purpose: Purpose = ARTIFACT) -> Distrust:
    with pytest.raises(UntrustedArtifact) as refused:
        ring.verify(purpose, data, signature)
    return refused.value.reason


def test_what_was_signed_is_believed_where_it_was_signed(ring: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    assert ring.verify(ARTIFACT, DATA, signature) == ring.own_fingerprint()


def test_other_bytes_are_not_believed(ring: KeyRing) -> None:
    assert _refusal(ring, DATA + b" ", ring.sign(ARTIFACT, DATA)) == Distrust.BAD_SIGNATURE


def test_a_signature_for_one_purpose_is_none_for_another(ring: KeyRing) -> None:
    signature = ring.sign(RELEASE, DATA)
    assert _refusal(ring, DATA, signature) == Distrust.BAD_SIGNATURE


def test_no_other_spelling_of_a_signature_is_believed(ring: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    spelled = [
        signature + b"\n",
        signature.replace(b",", b", "),
        json.dumps(json.loads(signature) | {"more": 1}, sort_keys=True).encode(),
        signature.replace(b"==", b""),
        b"",
        b"{}",
        b"[" * 100_000,
        b"\xff",
    ]
    assert {_refusal(ring, DATA, one) for one in spelled} == {Distrust.BAD_SIGNATURE}


def test_no_flipped_bit_of_a_signature_file_is_believed(ring: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    for at in range(len(signature)):
        for bit in range(8):
            changed = signature[:at] + bytes([signature[at] ^ 1 << bit]) + signature[at + 1 :]
            assert _refusal(ring, DATA, changed)


def test_where_nobody_is_trusted_the_message_says_how_to_trust(
    ring: KeyRing, worker: KeyRing
) -> None:
    with pytest.raises(UntrustedArtifact, match=r"no key is trusted.*scoreline keys trust") as no:
        worker.verify(ARTIFACT, DATA, ring.sign(ARTIFACT, DATA), about="pima@1")
    assert no.value.fingerprint == ring.own_fingerprint()
    assert str(no.value).startswith("pima@1: ")


def test_an_unknown_key_is_not_believed(ring: KeyRing, worker: KeyRing) -> None:
    worker.sign(ARTIFACT, DATA)
    assert _refusal(worker, DATA, ring.sign(ARTIFACT, DATA)) == Distrust.UNKNOWN_KEY


def test_a_public_key_that_was_copied_is_believed(ring: KeyRing, worker: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    assert worker.trust(ring.export()) == ring.own_fingerprint()
    assert worker.verify(ARTIFACT, DATA, signature) == ring.own_fingerprint()
    assert worker.own_fingerprint() is None


def test_a_revoked_key_is_not_believed_though_it_is_trusted(ring: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    ring.revoke(str(ring.own_fingerprint())[:8])
    assert _refusal(ring, DATA, signature) == Distrust.REVOKED_KEY


def test_a_revoked_key_signs_no_more_until_there_is_another(ring: KeyRing) -> None:
    ring.sign(ARTIFACT, DATA)
    ring.revoke(str(ring.own_fingerprint()))
    with pytest.raises(UnusableKey, match=r"revoked.*keygen --rotate"):
        ring.sign(ARTIFACT, DATA)
    ring.generate(rotate=True)
    assert ring.verify(ARTIFACT, DATA, ring.sign(ARTIFACT, DATA)) == ring.own_fingerprint()


def test_a_revoked_key_cannot_be_trusted_again_by_mistake(ring: KeyRing) -> None:
    ring.sign(ARTIFACT, DATA)
    pem = ring.export()
    ring.revoke(str(ring.own_fingerprint()))
    with pytest.raises(UnusableKey, match="was revoked here and stays so"):
        ring.trust(pem)


def test_a_key_can_be_revoked_before_it_is_ever_seen(ring: KeyRing, worker: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    worker.revoke(str(ring.own_fingerprint()))
    assert _refusal(worker, DATA, signature) == Distrust.REVOKED_KEY


def test_after_a_rotation_both_keys_are_believed(ring: KeyRing) -> None:
    first, old = ring.own_fingerprint(), ring.sign(ARTIFACT, DATA)
    first = ring.own_fingerprint()
    second, made = ring.generate(rotate=True)
    new = ring.sign(ARTIFACT, DATA)
    assert made
    assert [ring.verify(ARTIFACT, DATA, one) for one in (old, new)] == [first, second]
    assert first != second


def test_a_key_is_made_once(ring: KeyRing) -> None:
    fingerprint, made = ring.generate()
    assert made
    assert ring.generate() == (fingerprint, False)


def test_the_private_key_is_for_its_owner_only(ring: KeyRing) -> None:
    ring.sign(ARTIFACT, DATA)
    mode = stat.S_IMODE((ring.folder / "private.pem").stat().st_mode)
    assert (mode, stat.S_IMODE(ring.folder.stat().st_mode)) == (0o600, 0o700)
    ring.generate(rotate=True)
    assert stat.S_IMODE((ring.folder / "private.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_signs_nothing(ring: KeyRing, mode: int) -> None:
    ring.sign(ARTIFACT, DATA)
    (ring.folder / "private.pem").chmod(mode)
    with pytest.raises(UnusableKey, match="can be read by others"):
        ring.sign(ARTIFACT, DATA)


SIGN = """
import sys
from pathlib import Path
from scoreline_artifacts.store.signing import KeyRing
sys.stdin.read(1)
sys.stdout.buffer.write(KeyRing(Path(sys.argv[1])).sign("artifact", b"data"))
"""


def test_processes_that_sign_for_the_first_time_at_once_use_one_key(ring: KeyRing) -> None:
    command = [sys.executable, "-c", SIGN, str(ring.folder)]
    pipe = subprocess.PIPE
    signers = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(4)]
    for one in signers:
        assert one.stdin is not None
        one.stdin.write(b".")
        one.stdin.flush()
    signatures = [one.communicate()[0] for one in signers]
    assert len(set(signatures)) == 1
    assert ring.verify(ARTIFACT, b"data", signatures[0]) == ring.own_fingerprint()
    assert len(ring.known()) == 1
    assert sorted(one.name for one in ring.folder.iterdir()) == ["private.pem", "trusted"]


def test_keys_are_listed_with_what_they_are(ring: KeyRing, worker: KeyRing) -> None:
    ring.sign(ARTIFACT, DATA)
    worker.sign(ARTIFACT, DATA)
    ring.trust(worker.export())
    ring.revoke(str(worker.own_fingerprint()))
    found = {one.fingerprint: (one.revoked, one.signs) for one in ring.known()}
    assert found == {
        ring.own_fingerprint(): (False, True),
        worker.own_fingerprint(): (True, False),
    }


@pytest.mark.parametrize("pem", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\n"])
def test_what_is_no_key_cannot_be_trusted(ring: KeyRing, pem: bytes) -> None:
    with pytest.raises(UnusableKey, match="not a public key"):
        ring.trust(pem)


def test_a_key_of_another_kind_cannot_be_trusted(ring: KeyRing) -> None:
    public = other_kind(SECP256R1()).public_key()
    with pytest.raises(UnusableKey, match="not an Ed25519 key"):
        ring.trust(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_a_private_key_is_not_taken_for_a_public_one(ring: KeyRing, worker: KeyRing) -> None:
    ring.sign(ARTIFACT, DATA)
    with pytest.raises(UnusableKey, match="not a public key"):
        worker.trust((ring.folder / "private.pem").read_bytes())


def test_a_key_under_another_ones_name_is_refused(ring: KeyRing, worker: KeyRing) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    worker.sign(ARTIFACT, DATA)
    own = worker.folder / "trusted" / f"{worker.own_fingerprint()}.pem"
    own.rename(own.with_name(f"{ring.own_fingerprint()}.pem"))
    with pytest.raises(UnusableKey, match="not the key that its name says"):
        worker.verify(ARTIFACT, DATA, signature)


def test_a_folder_that_cannot_be_made_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableKey, match="cannot be used"):
        KeyRing(tmp_path / "file" / "keys").sign(ARTIFACT, DATA)


@pytest.mark.parametrize("beginning", ["", "abcd", "00000000", "../private"])
def test_what_names_no_key_revokes_none(ring: KeyRing, beginning: str) -> None:
    ring.sign(ARTIFACT, DATA)
    with pytest.raises(UnusableKey, match="does not name one key"):
        ring.revoke(beginning)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"SCORELINE_KEYS": "/a/keys"}, "/a/keys"),
        ({"SCORELINE_KEYS": "", "XDG_CONFIG_HOME": "/b"}, "/b/scoreline/keys"),
        ({"SCORELINE_KEYS": "", "XDG_CONFIG_HOME": "", "HOME": "/c"}, "/c/.config/scoreline/keys"),
    ],
)
def test_the_environment_names_the_folder(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert KeyRing.from_environment().folder == Path(folder)


def test_without_a_home_directory_there_is_no_folder_of_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would be the folder `~` of the working directory, which is anybody's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    for name in ("SCORELINE_KEYS", "SCORELINE_CACHE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for open_it in (KeyRing.from_environment, LogMarks.from_environment):
        with pytest.raises(SettingsError, match="has no home directory"):
            open_it()
    assert list(tmp_path.iterdir()) == []


# Whose folder it is


def _path_in(worker: KeyRing, name: str) -> Path:
    return next(worker.folder.glob(name)) if name != "." else worker.folder


@pytest.mark.parametrize("name", [".", "trusted", "trusted/*.pem"])
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_keys_that_anybody_may_add_are_not_believed(
    ring: KeyRing, worker: KeyRing, name: str, mode: int
) -> None:
    signature = ring.sign(ARTIFACT, DATA)
    worker.trust(ring.export())
    assert worker.verify(ARTIFACT, DATA, signature)
    _path_in(worker, name).chmod(mode)
    with pytest.raises(
        UnusableKey, match=rf"can be written by others \(mode 0{mode:o}\).*chmod go-w"
    ):
        worker.verify(ARTIFACT, DATA, signature)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_key_in_a_folder_of_all_is_not_believed(
    ring: KeyRing, worker: KeyRing
) -> None:
    """Kubernetes mounts secrets with the mode of /tmp: only who owns a file there may change it."""
    signature = ring.sign(ARTIFACT, DATA)
    worker.trust(ring.export())
    (worker.folder / "trusted").chmod(0o1777)
    assert worker.verify(ARTIFACT, DATA, signature)
    os.chown(_path_in(worker, "trusted/*.pem"), 65534, 65534)
    with pytest.raises(UnusableKey, match="belongs to another user"):
        worker.verify(ARTIFACT, DATA, signature)


def test_a_machine_that_only_trusts_signs_nothing_by_itself(ring: KeyRing, worker: KeyRing) -> None:
    """A rollback that is typed on a worker would make a private key there, and trust it."""
    worker.trust(ring.sign(ARTIFACT, DATA) and ring.export())
    with pytest.raises(UnusableKey, match="scoreline keygen"):
        worker.sign(RELEASE, DATA)
    assert worker.own_fingerprint() is None
    assert len(worker.known()) == 1
    worker.generate()
    assert worker.verify(RELEASE, DATA, worker.sign(RELEASE, DATA)) == worker.own_fingerprint()


def test_what_is_known_of_a_store_holds_no_secret_of_its_url(tmp_path: Path) -> None:
    ring, store = KeyRing(tmp_path / "keys"), PinnedStore("0" * 64, is_signed=True)
    address = "s3://id:hunter2@bucket/models?token=hunter3"
    ring.pin_store(address, store)
    (pin,) = (tmp_path / "keys" / "stores").iterdir()
    shown = pin.read_text()
    assert "s3://bucket/models" in shown
    assert "hunter" not in shown
    assert ring.pinned_store(address) == store
    pin.write_text(f"{store.identity}\n{address}\nsigned\n")  # as earlier releases did
    assert ring.pinned_store(address) == store
    assert pin.read_text() == shown
