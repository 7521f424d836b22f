"""A web server as the other side of a webhook."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A web server that keeps what it is sent, and answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        self.url = ""


@contextmanager
def listening() -> Iterator[Server]:
    """It listens on a free port of loopback, until the end."""
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            content = self.rfile.read(size)
            if len(content) < size:  # who called was killed amid it
                self.close_connection = True
                return
            found.requests.append(({name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(found.status)
            for name, value in {**found.headers, "Content-Length": str(len(found.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening, ThreadPoolExecutor(1) as thread:
        found.url = f"http://127.0.0.1:{listening.server_port}/hook"
        thread.submit(listening.serve_forever, 0.01)
        try:
            yield found
        finally:
            listening.shutdown()
