"""Sealing and opening with a repository's key: AES-256 in counter mode, then Poly1305-AES over the ciphertext.

One sealed unit is ``iv (16) || ciphertext || mac (16)``; the format is restic's (doc/design.rst, "Keys, Encryption and
MAC"), Poly1305-AES is D. J. Bernstein's of 2005: the one-time key is ``r || AES-128_k(iv)``. This module never decrypts
before the MAC is proven, never reuses an IV, and knows nothing of passwords (keys.py), files or compression.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from backup.errors import CorruptData
from backup.storage.base import Buffer

IV_BYTES: Final = 16
MAC_BYTES: Final = 16
OVERHEAD_BYTES: Final = IV_BYTES + MAC_BYTES
_NO_IV: Final = bytes(IV_BYTES)
_OPENED_BYTES: Final = 64 << 10
"""What a sealer has room for at first; most units are smaller."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The three secrets that seal everything: 32 bytes for AES-256; for the MAC, 16 of AES-128 and 16 of ``r``."""

    encrypt: bytes = field(repr=False)
    mac_k: bytes = field(repr=False)
    mac_r: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for part, size in ((self.encrypt, 32), (self.mac_k, 16), (self.mac_r, 16)):
            if len(part) != size or not any(part):
                raise CorruptData("could not use an encryption key: a part has the wrong size or is all zeros")

    @classmethod
    def generate(cls) -> "MasterKey":
        """Make a new one from the system's randomness."""
        return cls(os.urandom(32), os.urandom(16), os.urandom(16))


class Sealer:
    """Seals and opens with one key. Keeps its cipher contexts, so each thread needs its own.

    Setting up a context costs more than sealing a small blob; resetting the counter of one that exists costs nothing.
    Many small units are best done together: then their IVs come from one call, the one-time keys of their codes from
    another, and each piece of code finds the processor's caches as it left them.
    """

    def __init__(self, key: MasterKey) -> None:
        self._r = key.mac_r
        self._counter = Cipher(algorithms.AES256(key.encrypt), modes.CTR(bytes(16))).encryptor()
        self._block = Cipher(algorithms.AES128(key.mac_k), modes.ECB()).encryptor()  # noqa: S305 - one block, as defined
        self._opened = memoryview(bytearray(_OPENED_BYTES))

    def seal(self, plaintext: Buffer) -> bytes:
        """Encrypt and authenticate under a fresh random IV; 32 bytes longer than the plaintext."""
        sealed = bytearray(len(plaintext) + OVERHEAD_BYTES)
        self.seal_into([plaintext], memoryview(sealed))
        return bytes(sealed)

    def seal_into(self, plaintexts: Sequence[Buffer], room: memoryview) -> None:
        """Seal each under an IV of its own, one unit right behind the other from the beginning of ``room``.

        A unit takes 32 bytes more than its plaintext. Sealing where it is to lie is six times as fast as having a new
        object made for it.
        """
        ivs = os.urandom(IV_BYTES * len(plaintexts))
        keys = self._block.update(ivs)
        reset, encrypt_into = self._counter.reset_nonce, self._counter.update_into
        code, r = Poly1305.generate_tag, self._r
        start = at = 0
        for plaintext in plaintexts:
            iv, body = ivs[at : at + IV_BYTES], start + IV_BYTES
            end = body + len(plaintext)
            ciphertext = room[body:end]
            room[start:body] = iv
            reset(iv)
            encrypt_into(plaintext, ciphertext)
            start = end + MAC_BYTES
            room[end:start] = code(r + keys[at : at + IV_BYTES], ciphertext)
            at += IV_BYTES

    def open(self, sealed: Buffer) -> bytes:
        """Prove the MAC, then decrypt. Raises CorruptData when a bit differs or the key is another one."""
        return bytes(self.open_here([sealed])[0])

    def open_here(self, sealed: Sequence[Buffer]) -> list[memoryview]:
        """As `open`, each of several, into memory of its own that the next call writes over."""
        views = [memoryview(unit) for unit in sealed]
        ivs = [view[:IV_BYTES].tobytes() for view in views]
        for view, iv in zip(views, ivs, strict=True):
            if len(view) < OVERHEAD_BYTES or iv == _NO_IV:
                raise CorruptData(f"could not decrypt {len(view)} bytes: too short or without an initialization vector")
        size = sum(map(len, views))
        if size > len(self._opened):
            self._opened = memoryview(bytearray(size + size // 4))
        keys = self._block.update(b"".join(ivs))
        reset, decrypt_into = self._counter.reset_nonce, self._counter.update_into
        verify, r = Poly1305.verify_tag, self._r
        opened, start, at = [], 0, 0
        for view, iv in zip(views, ivs, strict=True):
            ciphertext = view[IV_BYTES:-MAC_BYTES]
            try:
                verify(r + keys[at : at + IV_BYTES], ciphertext, view[-MAC_BYTES:].tobytes())
            except InvalidSignature:
                raise CorruptData(f"could not decrypt {len(view)} bytes: authentication code does not match") from None
            plaintext = self._opened[start : start + len(ciphertext)]
            reset(iv)
            decrypt_into(ciphertext, plaintext)
            opened.append(plaintext)
            start += len(ciphertext)
            at += IV_BYTES
        return opened
