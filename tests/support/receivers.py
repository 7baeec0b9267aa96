"""A web server that gets events, as a webhook's receiver does."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver:
    """A real HTTP server that answers each request with the next status, the last one again and again.

    A status may be a pair of a number and headers, or "hang".  ``tls`` is the certificate's file and its key's, for https.
    """

    def __init__(self, *statuses, port=0, tls=None):
        self.statuses, self.got, self.released = list(statuses) or [200], [], threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                if status == "hang":
                    receiver.released.wait(60)
                    return
                number, headers = status if isinstance(status, tuple) else (status, {})
                self.send_response(number)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        class Threads(HTTPServer):
            allow_reuse_address = True

            def process_request(self, request, address):
                threading.Thread(target=super().process_request, args=(request, address), daemon=True).start()

        self._server = Threads(("127.0.0.1", port), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook?key=1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def events(self):
        """The kinds of the events that came."""
        return [json.loads(body.decode("utf-8"))["event"] for _, _, body in self.got]

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
