"""Sealing and opening: published vectors, and every way in which sealed bytes can be wrong."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305
from hypothesis import given
from hypothesis import strategies as st

from backup.crypto import OVERHEAD_BYTES, MasterKey, Sealer
from backup.errors import CorruptData

KEY = MasterKey(bytes(range(32)), bytes(range(16)), bytes(range(16, 32)))


def test_opens_what_restics_own_test_suite_sealed() -> None:
    """internal/crypto/crypto_int_test.go, testValues."""
    key = MasterKey(
        bytes.fromhex("303e8687b1d7db18421bdc6bb8588ccadac4d59ee87b8ff70c44e635790cafef"),
        bytes.fromhex("ef4d8824cb80b2bcc5fbff8a9b12a42c"),
        bytes.fromhex("cc8d4b948ee0ebfe1d415de921d10353"),
    )
    sealed = bytes.fromhex(
        "69fb41c62d12def4593bd71757138606338f621aeaeb39da0fe4f99233f8037a54ea63338a813bcf3f75d8c3cc75dddf8750"
    )
    assert Sealer(key).open(sealed) == b"Dies ist ein Test!"


def test_the_authentication_code_is_bernsteins() -> None:
    """D. J. Bernstein, The Poly1305-AES message-authentication code, appendix B, first vector, as a whole unit."""
    nonce, message = bytes.fromhex("fb447350c4e868c52ac3275cf9d4327e"), bytes.fromhex("f3f6")
    key = MasterKey(
        KEY.encrypt,
        bytes.fromhex("ec074c835580741701425b623235add6"),
        bytes.fromhex("851fc40c3467ac0be05cc20404f3f700"),
    )
    sealed = nonce + message + bytes.fromhex("f4c633c3044fc145f84f335cb81953de")
    counter = Cipher(algorithms.AES256(KEY.encrypt), modes.CTR(nonce)).decryptor()
    assert Sealer(key).open(sealed) == counter.update(message)


def test_a_sealer_agrees_with_the_textbook_combination() -> None:
    sealed = Sealer(KEY).seal(b"some plaintext")
    iv, ciphertext, mac = sealed[:16], sealed[16:-16], sealed[-16:]
    block = Cipher(algorithms.AES128(KEY.mac_k), modes.ECB()).encryptor().update(iv)
    Poly1305.verify_tag(KEY.mac_r + block, ciphertext, mac)
    assert Cipher(algorithms.AES256(KEY.encrypt), modes.CTR(iv)).decryptor().update(ciphertext) == b"some plaintext"


@given(st.binary(max_size=300))
def test_what_is_sealed_opens_again(plaintext: bytes) -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert sealer.open(sealed) == Sealer(KEY).open(memoryview(sealed)) == plaintext


def test_one_sealer_keeps_its_units_apart() -> None:
    sealer = Sealer(KEY)
    units = [(bytes([number]) * number, sealer.seal(bytes([number]) * number)) for number in range(1, 100)]
    assert all(sealer.open(sealed) == plaintext for plaintext, sealed in reversed(units))


def test_no_initialization_vector_is_used_twice() -> None:
    sealer = Sealer(KEY)
    assert len({sealer.seal(b"the same")[:16] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("position", range(48))
def test_every_flipped_bit_is_found(position: int) -> None:
    sealed = bytearray(Sealer(KEY).seal(b"sixteen bytes..."))
    sealed[position] ^= 1 << position % 8
    with pytest.raises(CorruptData):
        Sealer(KEY).open(sealed)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 47])
def test_what_is_cut_short_is_found(length: int) -> None:
    with pytest.raises(CorruptData):
        Sealer(KEY).open(Sealer(KEY).seal(b"sixteen bytes...")[:length])


def test_an_initialization_vector_of_zeros_is_refused() -> None:
    ciphertext = b"anything"
    block = Cipher(algorithms.AES128(KEY.mac_k), modes.ECB()).encryptor().update(bytes(16))
    sealed = bytes(16) + ciphertext + Poly1305.generate_tag(KEY.mac_r + block, ciphertext)
    with pytest.raises(CorruptData, match="initialization vector"):
        Sealer(KEY).open(sealed)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(CorruptData):
        Sealer(MasterKey.generate()).open(Sealer(KEY).seal(b"secret"))


@pytest.mark.parametrize("parts", [(bytes(32), b"k" * 16, b"r" * 16), (b"e" * 31, b"k" * 16, b"r" * 16)])
def test_weak_keys_are_refused(parts: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(CorruptData):
        MasterKey(*parts)


def test_a_key_shown_in_a_log_shows_nothing() -> None:
    assert repr(KEY) == "MasterKey()"
