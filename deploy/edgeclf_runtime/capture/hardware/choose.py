"""Chooses how a source is decoded, in the capture process before it gives up its rights, which depend on the choice."""

import os
from typing import TYPE_CHECKING, Callable, List

from ...errors import SourceError
from ...files.read import open_regular
from ..readers.containers import VideoHeader, read_header
from ..readers.opencv_reader import has_gstreamer, needs_gstreamer
from ..readers.reader import ReaderError
from .decoders import CODECS, DECODERS, Decoder, file_pipeline, installed, likely, stream_pipeline
from .describe import video_codec

if TYPE_CHECKING:
    from ..source import Source


def with_decoder(source: "Source", report: Callable[[str], None]) -> "Source":
    """Return a Source with the pipeline that decodes it in hardware, or unchanged for FFmpeg.

    report  function that is called with the name of what is about to be tried, then with the element's name, or "" for software.
            Whatever goes wrong from then on may be the fault of the hardware.

    If hardware was demanded, raises SourceError if there is none, and ReaderError if the camera does not describe its stream.
    """
    if source.decode == "software" or not (source.by_rtsp or source.kind == "file"):
        return source
    if source.decode != "hardware" and source.kind == "file":
        # Times, colors, orientation and counts of a file are made sure for FFmpeg's frames only.
        return source
    if source.decode == "hardware" and not has_gstreamer():
        raise SourceError(needs_gstreamer("--decode hardware for {}".format(source.name)))
    candidates, chosen = likely() if has_gstreamer() else [], source
    if candidates:
        report("GStreamer")
        candidates = installed(candidates)
        try:
            chosen = _chosen(source, candidates) if candidates else source
        except ValueError as error:
            report("")
            if source.decode == "hardware":
                raise ReaderError("{} cannot be opened".format(source.name), str(error))
            return source  # FFmpeg finds out what is wrong
        report(chosen.decoder)
    if source.decode == "hardware" and not chosen.pipeline:
        raise SourceError(_none(source, candidates))
    return chosen


def _chosen(source: "Source", candidates: List[Decoder]) -> "Source":
    header = _header(source) if source.kind == "file" else VideoHeader()
    codec = header.codec if source.kind == "file" else video_codec(source.location, source.address or ())
    for decoder in candidates:
        if decoder.codec == codec:
            if source.kind == "file":
                path = os.path.abspath(source.location)
                pipeline = file_pipeline(decoder, path, header.container) or ""
            else:
                pipeline = stream_pipeline(decoder, source.location)
            return source._replace(pipeline=pipeline, decoder=decoder.element if pipeline else "")
    return source


def _header(source: "Source") -> VideoHeader:
    try:
        with open_regular(source.location) as stream:
            return read_header(stream, os.fstat(stream.fileno()).st_size)
    except OSError:
        return VideoHeader()  # the reader reports it


def _none(source: "Source", candidates: List[Decoder]) -> str:
    if candidates:
        found = "GStreamer has {}, but the video is of another codec or in another container".format(
            ", ".join(sorted({decoder.element for decoder in candidates}))
        )
    else:
        found = "GStreamer has none of {}".format(", ".join(sorted({decoder.element for decoder in DECODERS})))
    return "{} cannot be decoded in hardware: {}; expected {} with one of them: use --decode auto".format(
        source.name, found, " or ".join(CODECS)
    )
