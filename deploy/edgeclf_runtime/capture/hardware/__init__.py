"""Chooses a decoder of the hardware, for RTSP streams and video files, through an OpenCV with GStreamer."""
