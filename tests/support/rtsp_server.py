"""An RTSP server of moving pictures on loopback, by GStreamer: python3 rtsp_server.py PORT WIDTH HEIGHT FPS

With CAMERA_USER and CAMERA_SECRET in the environment it asks for them, by CAMERA_AUTH, "basic" or "digest".
CAMERA_ADDRESS and CAMERA_PATH are another address to listen at, and another path than /camera.
Run by Debian's python3 (packages python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-{base,good,ugly}).
"""

import os
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def ask_for_password(server, factory, user, secret, method):
    """Let only one user see the pictures."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth.new()
    if method == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, secret, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, secret), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions.new()
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", permission, True)
    factory.set_permissions(permissions)


port, width, height, fps = sys.argv[1:]
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address(os.environ.get("CAMERA_ADDRESS", "127.0.0.1"))
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_shared(True)
factory.set_launch(
    f"( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate={fps}/1 ! "
    f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} ! rtph264pay name=pay0 config-interval=1 )"
)
if "CAMERA_USER" in os.environ:
    ask_for_password(server, factory, *(os.environ["CAMERA_" + name] for name in ("USER", "SECRET", "AUTH")))
server.get_mount_points().add_factory(os.environ.get("CAMERA_PATH", "/camera"), factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
