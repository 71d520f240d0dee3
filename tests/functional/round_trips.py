"""A relay in front of PostgreSQL that counts round trips, and can delay them."""

import select
import socket
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class RoundTrips:
    """A relay to a PostgreSQL that listens on a Unix socket; count has its round trips."""

    def __init__(self, url: str) -> None:
        """Listen on a free port; url is one of EmbeddedPostgres.start()."""
        parts = urlsplit(url)
        self._server = str(Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}{parts.path}"
        self.count = 0
        self.delay = 0.0  # seconds, of each round trip
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
            from_client = False
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    # A query may come in several pieces, and so may its result.
                    self.count += ready is client and not from_client
                    from_client = ready is client
                    time.sleep(self.delay if from_client else 0)
                    (server if from_client else client).sendall(data)

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()
