"""Sealing and opening with a repository's key: AES-256 in counter mode, then Poly1305-AES over the ciphertext.

One sealed unit is ``iv (16) || ciphertext || mac (16)``; the format is restic's (doc/design.rst, "Keys, Encryption and
MAC"), Poly1305-AES is D. J. Bernstein's of 2005: the one-time key is ``r || AES-128_k(iv)``. This module never decrypts
before the MAC is proven, never reuses an IV, and knows nothing of passwords (keys.py), files or compression.
"""

import os
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
    """

    def __init__(self, key: MasterKey) -> None:
        self._r = key.mac_r
        self._counter = Cipher(algorithms.AES256(key.encrypt), modes.CTR(bytes(16))).encryptor()
        self._block = Cipher(algorithms.AES128(key.mac_k), modes.ECB()).encryptor()  # noqa: S305 - one block, as defined
        self._opened = memoryview(bytearray(_OPENED_BYTES))

    def seal(self, plaintext: Buffer) -> bytes:
        """Encrypt and authenticate under a fresh random IV; 32 bytes longer than the plaintext."""
        sealed = bytearray(len(plaintext) + OVERHEAD_BYTES)
        self.seal_into(plaintext, memoryview(sealed))
        return bytes(sealed)

    def seal_into(self, plaintext: Buffer, room: memoryview) -> int:
        """Seal into the beginning of ``room``, which has 32 bytes more than the plaintext; gives the sealed length.

        Sealing where the unit is to lie is six times as fast as having a new object made for it.
        """
        iv, end = os.urandom(IV_BYTES), IV_BYTES + len(plaintext)
        self._counter.reset_nonce(iv)
        room[:IV_BYTES] = iv
        self._counter.update_into(plaintext, room[IV_BYTES:end])
        code = Poly1305.generate_tag(self._r + self._block.update(iv), room[IV_BYTES:end])
        room[end : end + MAC_BYTES] = code
        return end + MAC_BYTES

    def open(self, sealed: Buffer) -> bytes:
        """Prove the MAC, then decrypt. Raises CorruptData when a bit differs or the key is another one."""
        return bytes(self.open_here(sealed))

    def open_here(self, sealed: Buffer) -> memoryview:
        """As `open`, into memory of its own that the next call writes over."""
        view = memoryview(sealed)
        iv = view[:IV_BYTES].tobytes()
        if len(view) < OVERHEAD_BYTES or iv == _NO_IV:
            raise CorruptData(f"could not decrypt {len(view)} bytes: too short or without an initialization vector")
        ciphertext = view[IV_BYTES:-MAC_BYTES]
        try:
            Poly1305.verify_tag(self._r + self._block.update(iv), ciphertext, view[-MAC_BYTES:].tobytes())
        except InvalidSignature:
            raise CorruptData(f"could not decrypt {len(view)} bytes: authentication code does not match") from None
        size = len(ciphertext)
        if size > len(self._opened):
            self._opened = memoryview(bytearray(size + size // 4))
        self._counter.reset_nonce(iv)
        self._counter.update_into(ciphertext, self._opened[:size])
        return self._opened[:size]
