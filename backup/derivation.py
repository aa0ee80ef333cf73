"""Turning a password into key bytes, if need be before anybody asks: scrypt (RFC 7914), and nothing else.

scrypt is slow on purpose, about half a second, and needs no help from the interpreter meanwhile. Whoever knows early
which password and which key file will be wanted says so by `derive_ahead`, and goes on importing; `derive` then waits
for what is under way instead of beginning anew. What was derived ahead is given out once and forgotten.

This module imports nothing of ours and little else, so that asking for it costs nothing.
"""

import hashlib
from threading import Thread
from typing import Final

KEY_BYTES: Final = 64
Request = tuple[bytes, bytes, int, int, int]
"""Password in UTF-8, salt, and scrypt's N, r and p."""


class _Derivation(Thread):
    """One derivation in a thread of its own; ``key`` is empty when it failed."""

    def __init__(self, request: Request) -> None:
        super().__init__(name="derive", daemon=True)
        self.key = b""
        self._request = request

    def run(self) -> None:
        try:
            self.key = _scrypt(self._request)
        except (ValueError, MemoryError):  # whoever asks for it does it again, and hears why
            return


_under_way: dict[Request, _Derivation] = {}
_asked: set[bytes] = set()
"""Salts of what was derived already: whoever asks ahead too late is not to have it done once more."""


def derive_ahead(request: Request) -> None:
    """Begin in a thread. Never raises: what cannot be derived is for `derive` to tell."""
    if request not in _under_way and request[1] not in _asked:
        _under_way[request] = _Derivation(request)
        _under_way[request].start()


def derive(request: Request) -> bytes:
    """Give the 64 bytes. Raises ValueError for parameters that scrypt does not take, MemoryError."""
    _asked.add(request[1])
    begun = _under_way.pop(request, None)
    if begun is not None:
        begun.join()
        if begun.key:
            return begun.key
    return _scrypt(request)


def _scrypt(request: Request) -> bytes:
    password, salt, n, r, p = request
    memory = 128 * r * (n + p + 2) + 2**20
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=KEY_BYTES)
