"""A camera that speaks MJPEG over HTTP on loopback: python3 mjpeg_server.py PORT WIDTH HEIGHT FPS"""

import http.server
import socketserver
import sys
import time

import cv2
import numpy as np

port, width, height, fps = map(int, sys.argv[1:])


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends one picture after another, each of another gray with a bar that moves."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        start, number = time.monotonic(), 0
        try:
            while True:
                image = np.full((height, width, 3), number * 3 % 256, np.uint8)
                image[:, number * 4 % width :][:, : width // 8] = 255
                data = cv2.imencode(".jpg", image)[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                number += 1
                time.sleep(max(0.0, start + number / fps - time.monotonic()))
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", port), Handler)
print("ready", flush=True)
server.serve_forever()
