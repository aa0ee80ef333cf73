"""Who runs this process: what locks, keys and snapshots say of their maker."""

import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """A process as others can find it. Two hosts with one name are one host to everybody who reads this."""

    hostname: str
    username: str
    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.username}@{self.hostname}:{self.pid}"

    @classmethod
    def current(cls) -> "Owner":
        """Describe this process."""
        uid = os.getuid()
        try:
            username = pwd.getpwuid(uid).pw_name
        except KeyError:
            username = ""
        return cls(os.uname().nodename, username, os.getpid(), uid, os.getgid())


def process_is_alive(pid: int) -> bool:
    """Whether a process of this host exists, whoever owns it. Of a pid that is none nobody can say, so it is alive."""
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OverflowError:
        return False
    return True
