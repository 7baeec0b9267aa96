"""Leaves out the tests in ``nvidia``, which use NVIDIA's libraries, where the host's packages are not installed."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("onnx") else ["nvidia"]
