"""A stand-in for the Hugging Face hub: the answers that its client needs to fetch files of one repository."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves files of a repository on this machine; ``asked`` lists what was requested."""

    def __init__(self, repository, files):
        self.asked = asked = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                asked.append((self.command, self.path))
                folder, _, name = self.path.partition("?")[0].rpartition("/")
                data = files.get(name) if folder.startswith(f"/{repository}/resolve/") else None
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.send_header("X-Repo-Commit", COMMIT)
                if data is not None:
                    self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                else:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                if self.command == "GET" and data:
                    self.wfile.write(data)

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
