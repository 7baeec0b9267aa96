"""Containers of video files: what they describe, and damaged ones."""

import io
import math
import random
import struct

import pytest

from edgeclf_runtime.capture.readers.containers import VideoHeader, mp4, read_header, walk
from tests.support.video_files import BT709_MP4, avi, mkv, mov, shades

TIMES_MS = [0, 40, 80, 330]
VIDEOS = {
    "mov": mov(shades(4), [40, 40, 250, 100]),
    "mov with its index last": mov(shades(4), [40, 40, 250, 100], index_first=False),
    "mkv": mkv(shades(4), TIMES_MS, roll=90.0),
    "mp4": BT709_MP4,
}


def read(data, size=None):
    return read_header(io.BytesIO(data), len(data) if size is None else size)


def walked(data):
    return list(walk(io.BytesIO(data), len(data)))


def test_times_and_lengths_are_those_of_the_container():
    header = read(VIDEOS["mov"])
    assert (header.times, header.frames, header.duration_s) == ([0.0, 0.04, 0.08, 0.33], 4, 0.43)
    assert [round(time * 1e3) for time in walked(VIDEOS["mkv"])] == TIMES_MS
    assert read(VIDEOS["mkv"]).duration_s == 0.37


def test_an_avi_video_counts_its_empty_steps(tmp_path):
    data = avi(tmp_path / "a.avi", 5).read_bytes()
    assert (read(data).frames, read(data).duration_s) == (5, 0.1)
    assert walked(data) == [0, 0.02, 0.04, 0.06, 0.08]
    at = data.index(b"00dc", data.index(b"movi"))
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    empty = data[:at] + b"00dc" + bytes(4) + data[at + 8 + length + length % 2 :]
    assert walked(empty) == [None, 0.02, 0.04, 0.06, 0.08]


def test_the_colors_are_read_from_the_stream_and_from_the_container():
    assert read(BT709_MP4).matrix == 1
    # Each by itself: the other is renamed to an unknown box.
    assert read(BT709_MP4.replace(b"colr", b"colx")).matrix == 1
    assert read(BT709_MP4.replace(b"avcC", b"avcx")).matrix == 1
    both = BT709_MP4.replace(b"colr", b"colx").replace(b"avcC", b"avcx")
    assert read(both).matrix is None


def test_an_edit_list_leaves_out_what_comes_before_it():
    at = BT709_MP4.index(b"elst")
    # The only edit begins one frame later.
    late = BT709_MP4[: at + 16] + (512).to_bytes(4, "big") + BT709_MP4[at + 20 :]
    assert (read(BT709_MP4).frames, read(late).frames) == (2, 1)


def test_what_is_missing_at_the_end_is_counted_in_bytes():
    for name, data in VIDEOS.items():
        assert read(data).missing_bytes == 0
        assert read(data[:-7], len(data) - 7).missing_bytes == 7, name


def test_an_index_behind_the_pictures_is_seen_in_the_first_bytes():
    assert mp4.index_is_last(VIDEOS["mov with its index last"][:200])
    assert not mp4.index_is_last(VIDEOS["mov"][:200])
    assert not mp4.index_is_last(VIDEOS["mkv"][:200])
    assert not mp4.index_is_last(b"")


@pytest.mark.parametrize("name", sorted(VIDEOS))
def test_damaged_and_shortened_videos_are_read_without_an_error(name):
    chance, data = random.Random(1), VIDEOS[name]
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(data))] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
        del damaged[chance.choice([len(data), chance.randrange(len(data))]) :]
        header = read(bytes(damaged))
        assert isinstance(header, VideoHeader)
        assert 0 <= header.orientation <= 8
        assert header.times is None or header.times == sorted(header.times)
        assert len(walked(bytes(damaged))) <= 1000


def test_a_length_of_nothing_and_a_frame_count_without_frames_end_soon():
    assert read(b"\0\0\0\1ftyp" + bytes(4000)).times is None
    claims = bytearray(VIDEOS["mov"])
    at = claims.index(b"stsz")
    claims[at + 12 : at + 16] = b"\xff" * 4
    assert read(bytes(claims)).times is None


def test_another_container_says_nothing():
    assert read(b"\x47" + bytes(187)) == VideoHeader()
    assert walked(b"\x47" + bytes(187)) == []
    assert read(b"") == VideoHeader()


def test_a_file_of_unknown_length_may_end_in_a_box_without_a_length():
    data = VIDEOS["mov"]
    at = data.index(b"mdat") - 4
    header = read(data[:at] + bytes(4) + data[at + 4 :], math.inf)
    assert (header.frames, header.missing_bytes, header.fault) == (4, 0, "")


def test_an_index_of_more_frames_than_any_file_has_is_not_believed_whatever_the_files_length():
    data = VIDEOS["mov"]
    at = data.index(b"stsz") + 8
    # All frames of one size, so that the index needs no bytes for each of them.
    huge = data[:at] + struct.pack(">II", 1, 1 << 31) + data[at + 8 :]
    assert read(huge, math.inf) == read(huge) == VideoHeader()
