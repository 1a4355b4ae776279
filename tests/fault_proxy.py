"""An HTTP proxy that misbehaves as told: down, busy, slow, or gone after the request was taken."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Which = Callable[[str, str], bool]  # by method and path
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
FULL = b"<Error><Code>XMinioStorageFull</Code><Message>Storage backend has no space left.</Message></Error>"
_ANSWERS = {"busy": (503, SLOW_DOWN), "refused": (403, SLOW_DOWN), "full": (507, FULL)}


class FaultProxy:
    """Stands between a client and an HTTP server; `fault` is None while it behaves.

    Faults: `down` (the connection ends unanswered), `busy` (503 SlowDown), `slow` (a second later), `refused`
    (403), `full` (507), `cut` (the server takes the request and answers, the client never hears of it).
    `times` bounds how often, `which` says for which requests.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.fault: str | None = None
        self.which: Which = lambda _method, _path: True
        self.times = -1
        self.seen: list[tuple[str, str, str | None]] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def fault_of(self, method: str, path: str) -> str | None:
        """Give the fault that this request meets, and count it."""
        with self._lock:
            met = self.fault if self.times != 0 and self.fault and self.which(method, path) else None
            if met:
                self.times -= 1
            self.seen.append((method, path, met))
            return met

    @contextmanager
    def faulty(self, fault: str, which: Which | None = None, times: int = -1) -> Iterator[None]:
        """Misbehave for a while."""
        self.fault, self.times = fault, times
        self.which = which or (lambda _method, _path: True)
        try:
            yield
        finally:
            self.fault = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def log_message(self, *_arguments) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.fault_of(self.command, self.path)
        if fault == "slow":
            time.sleep(1)
        if fault == "down":
            return self._hang_up()
        if fault in _ANSWERS:
            status, content = _ANSWERS[fault]
            return self._answer(status, [("Content-Type", "application/xml")], content)
        connection = HTTPConnection(self.owner.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException):
            return self._hang_up()
        finally:
            connection.close()
        if fault == "cut":
            return self._hang_up()
        return self._answer(response.status, response.getheaders(), content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # the base class's names

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", "0")
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):  # the client has gone
                self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()
