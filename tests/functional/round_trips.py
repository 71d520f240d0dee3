"""A relay before PostgreSQL, which counts how often somebody waits for its answer."""

import select
import socket
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class RoundTrips:
    """Relays every connection to the PostgreSQL of a URL, whose socket is a file."""

    def __init__(self, url: str) -> None:
        """url: as EmbeddedPostgres.start() returns it."""
        parts = urlsplit(url)
        self._server = str(Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}{parts.path}"
        self.count = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            waits = False
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    # More of the same question may come in pieces; so may an answer.
                    self.count += ready is client and not waits
                    waits = ready is client
                    (server if waits else client).sendall(data)

    def close(self) -> None:
        """Take no further connections."""
        self._listener.close()
