"""Other ends that say what a test wrote for them: a TCP server with one line of thought, a UDP one, a silent one."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def scripted(act: Callable[[socket.socket], None]) -> Iterator[int]:
    """Have a TCP server that does ``act`` with each connection; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, act), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def saying(*answers: bytes) -> Callable[[socket.socket], None]:
    """Return an act: the first answer at once, each further one after something was heard, then silence until the other
    side hangs up.
    """

    def act(connection: socket.socket) -> None:
        for place, answer in enumerate(answers):
            if place and not connection.recv(65_536):
                return
            connection.sendall(answer)
        while connection.recv(65_536):
            pass

    return act


@contextlib.contextmanager
def silent(kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[int]:
    """Have a port that takes everything and never says a word."""
    with socket.socket(socket.AF_INET, kind) as hole:
        hole.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            hole.listen(64)
        yield hole.getsockname()[1]


@contextlib.contextmanager
def datagrams(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """Have a UDP server that answers each datagram by what ``answer`` makes of it; gives its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        over = threading.Event()
        server.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    data, sender = server.recvfrom(65_536)
                    server.sendto(answer(data), sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


def _serve(listener: socket.socket, act: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            act(connection)
