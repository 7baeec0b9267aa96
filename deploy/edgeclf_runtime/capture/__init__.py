"""Reads frames from cameras, streams, video files and images.

open_camera.py  open_camera(): from a URI to a Camera
reconnect.py    reopens a live camera after it was lost
parent.py       starts the process that reads a source, and kills it if it hangs
child.py        that process: readers/ reads and decodes, sandbox/ takes away its rights
diagnosis.py    explains to the user why a source does not work
"""
