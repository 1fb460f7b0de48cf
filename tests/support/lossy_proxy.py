"""A TCP proxy before a real server, that can lose answers or refuse to connect."""

import contextlib
import socket
import threading
from collections.abc import Callable


class LossyProxy:
    """Passes bytes both ways until it is told to lose an answer.

    ``connect`` opens a connection to the real server.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        """Answers lost so far."""
        self._lose: bytes | None = None
        self._is_away = False
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def lose_answer_with(self, text: bytes) -> None:
        """Close the connection in place of the next answer that holds this text."""
        self._lose = text

    def go_away_after_loss(self) -> None:
        """Refuse every connection from the next lost answer on."""
        self._is_away = True

    def come_back(self) -> None:
        """Take connections again."""
        self._is_away = False

    def close(self) -> None:
        """Close every connection and end every thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            _hang_up(end)
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_away and self.lost:
                    client.close()
                    continue
                server = self._connect()
                self._open += (client, server)
                self._start(self._pass_requests, client, server)
                self._start(self._pass_answers, server, client)

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        _hang_up(server)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if self._lose is not None and self._lose in data:
                    self._lose = None
                    self.lost += 1
                    break
                client.sendall(data)
        _hang_up(client)
        _hang_up(server)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
