import hashlib

import pytest

from backup import derivation
from backup.derivation import derive, derive_ahead
from backup.keys import KdfParameters

REQUEST = (b"a password", bytes(64), 1024, 8, 1)


def test_what_was_begun_ahead_is_what_is_derived() -> None:
    derive_ahead(REQUEST)
    derive_ahead(REQUEST)
    expected = hashlib.scrypt(REQUEST[0], salt=REQUEST[1], n=1024, r=8, p=1, dklen=64)
    assert derive(REQUEST) == expected == derive(REQUEST)


def test_a_guess_at_another_password_changes_nothing() -> None:
    derive_ahead((b"another", *REQUEST[1:]))
    right = KdfParameters(1024, 8, 1).derive("a password", bytes(64))
    assert right.encrypt == derive(REQUEST)[:32]


def test_what_was_derived_ahead_is_used_once_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    derive_ahead(REQUEST)
    key = derive(REQUEST)
    asked: list[derivation.Request] = []

    def ask(request: derivation.Request) -> bytes:
        asked.append(request)
        return key

    monkeypatch.setattr(derivation, "_scrypt", ask)
    assert derive(REQUEST) == key
    assert asked == [REQUEST]


def test_what_was_derived_already_is_not_begun_ahead_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    late = (b"a password", b"late", 1024, 8, 1)
    derive(late)
    monkeypatch.setattr(derivation, "_scrypt", pytest.fail)
    derive_ahead(late)


def test_parameters_that_scrypt_does_not_take_are_told_by_whoever_asks() -> None:
    bad = (b"a password", bytes(64), 1000, 8, 1)
    derive_ahead(bad)
    with pytest.raises(ValueError, match="power of 2"):
        derive(bad)
