"""A page that follows a run: served to this machine alone, and made again when the folder of the run has changed."""

import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["Watched", "version_of"]

_SECONDS = 2.0
"""A folder is looked at no more often."""


def version_of(folders: Sequence[Path]) -> str:
    """What changes when a file of a folder does: the newest time of change, and all sizes together, as a word.

    Pages and pictures that a look at a run writes do not count.
    """
    newest = size = number = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                found = path.lstat()
            except OSError:  # gone since
                continue
            if path.suffix in (".html", ".png", ".tmp") or path.is_dir():
                continue
            newest, size, number = max(newest, found.st_mtime_ns), size + found.st_size, number + 1
    return f"{newest:x}-{size:x}-{number:x}"


class Watched:
    """Serves the page of some runs on 127.0.0.1, to whoever asks for it by that name.

    Parameters
    ----------
    make_fn : makes the page of a version, as HTML. folders : of the runs. port : 0 for a free one.

    Raises
    ------
    OSError : if the port is taken.
    """

    def __init__(self, make_fn: Callable[[str], str], folders: Sequence[Path], port: int = 0):
        self._make_fn, self._folders = make_fn, list(folders)
        self._lock, self._looked, self._version, self._made, self._html = threading.Lock(), 0.0, "", "", ""
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        except OSError as error:
            raise OSError(error.errno, f"port: got {port}, which cannot be listened on ({error.strerror})") from None
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"

    def version(self) -> str:
        """Of the folders, looked at every two seconds."""
        with self._lock:
            if time.monotonic() - self._looked > _SECONDS or not self._version:
                self._version, self._looked = version_of(self._folders), time.monotonic()
            return self._version

    def html(self) -> str:
        """The page of the newest version; while a folder cannot be read, the last one that could."""
        now = self.version()
        with self._lock:
            if now != self._made:
                try:
                    self._html = self._make_fn(now)
                except (OSError, ValueError):
                    if not self._html:
                        raise
                else:
                    self._made = now
            return self._html

    def serve(self) -> None:
        """Answer until `close` is called, or the process is interrupted."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._server.server_close()

    def close(self) -> None:
        """End `serve`; to be called from another thread."""
        self._server.shutdown()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        watched = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # Another name that leads here is one of somebody else's page.
                if self.headers.get("Host") not in (f"127.0.0.1:{watched.port}", f"localhost:{watched.port}"):
                    self.send_error(403)
                    return
                if self.path not in ("/", "/version"):
                    self.send_error(404)
                    return
                try:
                    text = watched.html() if self.path == "/" else watched.version()
                except (OSError, ValueError) as error:
                    self.send_error(503, explain=" ".join(str(error).split()))
                    return
                data = text.encode()
                self.send_response(200)
                self.send_header("Content-Type", f"text/{'html' if self.path == '/' else 'plain'}; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the terminal is the user's."""

        return Handler
