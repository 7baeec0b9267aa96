"""GStreamer's decoders that use hardware, and the pipelines with them.

Sources of the names: NVIDIA's Accelerated GStreamer guide (nvv4l2decoder, nvvidconv); GStreamer's plug-ins video4linux2
(v4l2h264dec; stateful decoders such as a Raspberry Pi 4's), va (vah264dec) and vaapi (vaapih264dec).  GStreamer lists an element
of the last three only on a machine whose driver has that decoder.
"""

import ctypes
import glob
from typing import List, NamedTuple, Optional, Tuple

from ...text.addresses import parse_address, quoted
from ..source import PIPELINE_END

_JETSONS_NODES = ("/dev/nvmap", "/dev/nvhost-nvdec*", "/dev/v4l2-nvdec*")
# Depayloader and parser by a codec's name in RTP.
_STREAMS = {"H264": ("rtph264depay", "h264parse"), "H265": ("rtph265depay", "h265parse")}
CODECS = tuple(_STREAMS)
_DEMUXERS = {"MP4": "qtdemux", "Matroska": "matroskademux"}
# Packets over TCP are complete and in order, so none needs to be waited for.  drop-on-latency would drop parts of pictures.
_SOURCE = "rtspsrc location={} {}protocols=tcp latency=0 tcp-timeout=6000000 ! {} ! {} ! "
_FILE = "filesrc location={} ! {} ! {} ! "
_EVERY_FRAME = " ! videoconvert ! video/x-raw,format=BGR ! appsink max-buffers=2 sync=false"
NAME = "decoder"
"""The decoder's name in its pipeline, and the beginning of the names behind it; GStreamer's messages have them."""


class Decoder(NamedTuple):
    """An element that decodes in hardware.

    codec       a name in CODECS
    element     its name
    nodes       patterns of files, one of which a machine with this hardware has
    behind      elements behind it, which give pixels in the processor's memory
    """

    codec: str
    element: str
    nodes: Tuple[str, ...]
    behind: str = ""


_BGRX = " ! nvvidconv name=decoder_out ! video/x-raw,format=BGRx"
# The first one that exists is used.
DECODERS = (
    Decoder("H264", "nvv4l2decoder", _JETSONS_NODES, _BGRX),
    Decoder("H265", "nvv4l2decoder", _JETSONS_NODES, _BGRX),
    Decoder("H264", "v4l2h264dec", ("/dev/video*",)),
    Decoder("H265", "v4l2h265dec", ("/dev/video*",)),
    Decoder("H264", "vah264dec", ("/dev/dri/renderD*",)),
    Decoder("H265", "vah265dec", ("/dev/dri/renderD*",)),
    Decoder("H264", "vaapih264dec", ("/dev/dri/renderD*",), " ! video/x-raw"),
    Decoder("H265", "vaapih265dec", ("/dev/dri/renderD*",), " ! video/x-raw"),
)


def likely(root: str = "/") -> List[Decoder]:
    """Return the decoders whose devices exist below a folder; nothing is opened or loaded."""
    start = glob.escape(root.rstrip("/"))
    return [decoder for decoder in DECODERS if any(glob.glob(start + node) for node in decoder.nodes)]


def installed(decoders: List[Decoder]) -> List[Decoder]:
    """Return those of the decoders that GStreamer has.

    Loads GStreamer into this process, where OpenCV uses the same library; its first start on a machine lists all plug-ins, which
    takes seconds.
    """
    if not decoders:
        return []
    try:
        gstreamer = ctypes.CDLL("libgstreamer-1.0.so.0")
    except OSError:
        return []
    find = gstreamer.gst_element_factory_find
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    if not gstreamer.gst_init_check(None, None, None):
        return []
    return [decoder for decoder in decoders if find(decoder.element.encode())]


def stream_pipeline(decoder: Decoder, location: str) -> str:
    """Return the pipeline that reads an rtsp address; the newest frame is kept.

    The address's user name and password are properties of their own, because GStreamer writes its location into messages.
    """
    address = parse_address(location)
    user = "" if address.plain_user is None else "user-id={} ".format(quoted(address.plain_user))
    if address.plain_password is not None:
        user += "user-pw={} ".format(quoted(address.plain_password))
    plain = quoted(str(address._replace(user=None, password=None)))
    return _SOURCE.format(plain, user, *_STREAMS[decoder.codec]) + _decoding(decoder) + PIPELINE_END


def file_pipeline(decoder: Decoder, path: str, container: str) -> Optional[str]:
    """Return the pipeline that gives every frame of a video file, or None if its container is not known."""
    demuxer = _DEMUXERS.get(container)
    if demuxer is None:
        return None
    return _FILE.format(quoted(path), demuxer, _STREAMS[decoder.codec][1]) + _decoding(decoder) + _EVERY_FRAME


def _decoding(decoder: Decoder) -> str:
    return "{} name={}{}".format(decoder.element, NAME, decoder.behind)
