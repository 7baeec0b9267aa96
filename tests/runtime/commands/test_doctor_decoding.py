"""The doctor's check of hardware that decodes video."""

import pytest

from edgeclf_runtime.commands.doctor.decoding import check_decoding
from tests.runtime.capture.test_gstreamer import with_gstreamer
from tests.runtime.capture.test_hardware import said_by, start, with_element, with_openh264
from tests.support.boards import nano, write

CHECK = "from edgeclf_runtime.commands.doctor.decoding import check_decoding\nprint(check_decoding())"


def test_a_machine_without_a_decoder_decodes_in_software(tmp_path):
    check = check_decoding(str(tmp_path))
    assert (check.status, check.found.split(":")[0]) == ("ok", "in software")


def test_a_jetson_needs_an_opencv_with_gstreamer(tmp_path, monkeypatch):
    write(tmp_path, {"site/cv2.py": "def getBuildInformation(): return ' GStreamer: NO'", "dev/nvmap": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    check = check_decoding(str(nano(tmp_path)))
    assert (check.status, check.found) == (
        "warning",
        "in software: nvv4l2decoder would need an OpenCV with GStreamer, which pip's OpenCV is not",
    )
    assert "apt-get install -y libopencv-python" in check.fix


def test_devices_of_a_pc_without_gstreamer_are_no_reason_to_worry(tmp_path, monkeypatch):
    write(tmp_path, {"site/cv2.py": "def getBuildInformation(): return ' GStreamer: NO'", "dev/dri/renderD128": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    check = check_decoding(str(tmp_path))
    assert (check.status, check.fix) == ("ok", "")
    assert "vah264dec, vah265dec, vaapih264dec, vaapih265dec would need" in check.found


@pytest.mark.slow
@with_gstreamer
@with_openh264
def test_a_decoder_that_gstreamer_has_is_shown(tmp_path):
    said = said_by(start(with_element(tmp_path, "openh264dec"), CHECK))
    assert "status='ok', found='in hardware, for rtsp://: H264 by openh264dec'" in said
