"""A stand-in for ONNX Runtime with CUDA, for machines with neither that build nor a GPU."""

import onnxruntime

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
EXACT_CUDA = (CUDA, {"use_tf32": "0"})


class CudaBuild:
    """ONNX Runtime as a build with CUDA behaves if CUDA works, or fails in one of four ways."""

    def __init__(self, monkeypatch, failure=None):
        real, asked = onnxruntime.InferenceSession, []

        def open_session(path, options, providers, **more):
            asked.append(providers)
            session = real(path, options, providers=[CPU], **more)
            if providers[0] != CPU:
                if failure == "is old" and providers[0] == EXACT_CUDA:
                    raise RuntimeError("Unknown provider option: use_tf32")
                if failure == "raises":
                    raise RuntimeError("libcudnn.so.9: cannot open shared object file")
                if failure == "infers":
                    session.run = self._fail
                if failure == "falls back":
                    print("EP Error libcudnn.so.9: cannot open shared object file")
                elif failure != "raises":
                    session.get_providers = lambda: [CUDA, CPU]
            return session

        self.asked = asked
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)

    @staticmethod
    def _fail(*_):
        raise RuntimeError("libcudnn.so.9: no kernel image is available for execution on the device")
