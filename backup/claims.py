"""Which process saves a new blob: a set of ids in memory that forked processes share, so that two workers meeting the
same content store it once.

It takes no lock. When two processes write one slot at the same moment a claim may be lost, and the blob is stored
twice, which the format allows. What cannot happen is that an id is taken for claimed that nobody claimed: slots hold
whole ids, and a slot torn between two writers equals neither.
"""

import mmap

_ID = 32
_FREE = bytes(_ID)
_TABLES = 6
_FIRST_SLOTS = 1 << 14
_GROWTH_BITS = 2
"""Each table has four times the slots of the one before; memory counts only once it is touched."""
_MOST_PROBES = 4


class Claims:
    """Make it before the workers are forked. Costs about 50 bytes of shared memory an id.

    Holds some 15 million ids; a run that adds more new blobs than that may store some of them twice.
    """

    def __init__(self) -> None:
        slots = [_FIRST_SLOTS << (_GROWTH_BITS * step) for step in range(_TABLES)]
        self._tables = [(mmap.mmap(-1, _ID * count), count - 1) for count in slots]

    def claim(self, name: bytes) -> bool:
        """Tell whether the caller is the first to claim this id, and so has to save the blob."""
        start = int.from_bytes(name[8:16], "little")
        for table, mask in self._tables:
            for probe in range(_MOST_PROBES):
                at = ((start + probe) & mask) * _ID
                held = table[at : at + _ID]
                if held == name:
                    return False
                if held == _FREE:
                    table[at : at + _ID] = name
                    return True
        return True

    def close(self) -> None:
        """Give the memory back."""
        for table, _ in self._tables:
            table.close()
