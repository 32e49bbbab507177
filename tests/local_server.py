"""A real HTTP server on this machine, for what stands in for others' services."""

import threading
from http.server import ThreadingHTTPServer


class LocalServer:
    """Answers by a request handler of its own, from the start until it is closed, at `url`."""

    def __init__(self, handler):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        # Looks often whether it shall end: half a second each is minutes over all tests.
        serve = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        serve.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
