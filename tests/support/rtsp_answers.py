"""A camera that answers RTSP as a test wants it: with a status, with something else, or not at all."""

import contextlib
import socket
import threading

SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=it\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"


class RtspAnswers:
    """Listens on loopback; used inside ``with``.

    status      of the answer to ``method``; others are answered as they should be
    raw         bytes that are sent instead of any answer; b"" closes the connection, None sends nothing
    headers     further lines of that answer
    """

    def __init__(self, status="200 OK", method="DESCRIBE", headers=(), **raw):
        self._status, self._method, self._headers, self._raw = status, method, headers, raw
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self._open = []
        self.requests = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        # The first connection only looks whether the port answers.
        with link.makefile("rb") as lines:
            request = self._request(lines)
            while request:
                self.requests.append(request[0])
                if "raw" in self._raw:
                    if self._raw["raw"]:
                        link.sendall(self._raw["raw"])
                    if self._raw["raw"] is not None:
                        with contextlib.suppress(OSError):  # the other side was sooner
                            link.shutdown(socket.SHUT_RDWR)
                    return
                link.sendall(self._answer(request))
                request = self._request(lines)

    @staticmethod
    def _request(lines):
        found = []
        try:
            for line in lines:
                if line in (b"\r\n", b"\n"):
                    break
                found.append(line.decode("latin-1").strip())
        except OSError:
            return []
        return found

    def _answer(self, request):
        method = request[0].split()[0]
        number = next((line.split(":")[1].strip() for line in request if line.lower().startswith("cseq")), "1")
        chosen = method == self._method
        body = SDP if method == "DESCRIBE" and not chosen else b""
        head = ["RTSP/1.0 " + (self._status if chosen else "200 OK"), "CSeq: " + number]
        head += ["Public: OPTIONS, DESCRIBE, SETUP, PLAY"] * (method == "OPTIONS") + list(self._headers) * chosen
        head += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"] * (method == "SETUP")
        head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"] * bool(body)
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body

    def uri(self, user="", scheme="rtsp"):
        """The camera's address."""
        return f"{scheme}://{user}127.0.0.1:{self.port}/stream"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for link in [self._listener, *self._open]:
            link.close()
