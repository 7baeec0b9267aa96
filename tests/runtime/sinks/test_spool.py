import os
import shutil
import subprocess
import sys

import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.sinks.mqtt import spool
from edgeclf_runtime.sinks.mqtt.spool import Spool


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(spool, "PART_BYTES", 50)


def lines(start, stop):
    """Lines of ten bytes, including line ends."""
    return [b"line %04d" % number for number in range(start, stop)]


def fill(queue, start, stop):
    for line in lines(start, stop):
        queue.append(line)


def drain(queue):
    found = []
    taken = queue.take()
    while taken:
        found += taken
        queue.discard()
        taken = queue.take()
    return found


@pytest.fixture
def queue(tmp_path):
    opened = Spool(tmp_path / "spool", 1000)
    yield opened
    opened.close()


def test_lines_come_out_in_the_order_in_which_they_came(queue):
    fill(queue, 0, 23)
    assert drain(queue) == lines(0, 23)
    assert os.listdir(queue.folder) == ["lock"]


def test_lines_stay_until_they_are_discarded_also_for_the_next_program(queue, tmp_path):
    fill(queue, 0, 12)
    assert queue.take() == lines(0, 5)
    queue.close()
    later = Spool(tmp_path / "spool", 1000)
    fill(later, 12, 20)
    assert drain(later) == lines(0, 20)
    later.close()


def test_lines_that_come_meanwhile_are_not_discarded_with_those_before(queue):
    fill(queue, 0, 2)
    assert queue.take() == lines(0, 2)
    fill(queue, 2, 4)
    queue.discard()
    assert drain(queue) == lines(2, 4)


def test_a_killed_program_leaves_every_line(tmp_path):
    code = (
        "import os, sys; from edgeclf_runtime.sinks.mqtt.spool import Spool; s = Spool(sys.argv[1], 1000)\n"
        "for i in range(12): s.append(b'line %04d' % i)\n"
        "os.kill(os.getpid(), 9)"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    assert subprocess.call([sys.executable, "-c", code, str(tmp_path / "spool")], env=environment) == -9
    queue = Spool(tmp_path / "spool", 1000)
    assert drain(queue) == lines(0, 12)
    queue.close()


def test_half_a_line_and_zeros_from_a_power_cut_are_left_out(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "000000000007.part").write_bytes(b"line 0000\n\0\0\0\0\nline 00")
    (tmp_path / "spool" / "000000000008.part").write_bytes(b"")
    queue = Spool(tmp_path / "spool", 1000)
    fill(queue, 1, 2)
    assert drain(queue) == lines(0, 2)
    queue.close()


def test_when_the_spool_is_full_the_oldest_go_and_are_counted(queue, caplog):
    fill(queue, 0, 300)
    size = sum(os.path.getsize(os.path.join(queue.folder, name)) for name in os.listdir(queue.folder))
    assert 900 < size <= 1000
    found = drain(queue)
    assert found == lines(300 - len(found), 300)
    assert queue.lost == 300 - len(found)
    assert len(caplog.messages) == 2
    assert "has reached 0 MB, the oldest results are lost" in caplog.messages[0]
    assert f"is empty again; {queue.lost} results were lost" in caplog.messages[1]


def test_what_was_taken_is_not_deleted_when_the_spool_is_full(queue):
    fill(queue, 0, 5)
    assert queue.take() == lines(0, 5)
    fill(queue, 5, 200)
    assert os.path.exists(os.path.join(queue.folder, "000000000000.part"))
    queue.discard()
    assert len(drain(queue)) + 5 + queue.lost == 200


def test_a_second_program_gets_a_spool_of_its_own(queue):
    with pytest.raises(OutputError, match="in use by another program: use another spool folder"):
        Spool(queue.folder, 1000)


def test_nobody_else_may_read_it(queue):
    assert os.stat(queue.folder).st_mode & 0o777 == 0o700


def test_a_folder_that_vanishes_leaves_the_newest_lines_in_memory(queue, caplog):
    shutil.rmtree(queue.folder)
    fill(queue, 0, 8)
    assert queue.lost == 5
    assert drain(queue) == lines(5, 8)
    fill(queue, 8, 9)
    os.makedirs(queue.folder)
    fill(queue, 9, 20)
    assert drain(queue) == lines(8, 20)
    assert len(caplog.messages) == 2
    assert "cannot be written, results wait in memory" in caplog.messages[0]
    assert "is written again" in caplog.messages[1]


def test_a_full_disk_leaves_no_half_line(small_disk, monkeypatch):
    monkeypatch.setattr(spool, "PART_BYTES", 5000)
    folder = small_disk("64k")
    queue = Spool(folder / "spool", 10**6)
    (folder / "filler").write_bytes(bytes(40_000))
    fill(queue, 0, 4700)
    assert queue.lost > 0
    (folder / "filler").unlink()
    fill(queue, 4700, 4710)
    queue.close()
    later = Spool(folder / "spool", 10**6)
    found = drain(later)
    assert len(found) + queue.lost == 4710
    assert sorted(found) == found
    assert found[-10:] == lines(4700, 4710)
    later.close()


def test_lines_that_are_stored_stay_in_the_file_while_it_is_repaired(queue, monkeypatch):
    fill(queue, 0, 2)
    path = os.path.join(queue.folder, "000000000000.part")
    with open(path, "ab") as stream:
        stream.write(b"line")  # left by a failed write
    opened = open
    sizes = []

    def watched(*args, **kwargs):
        stream = opened(*args, **kwargs)
        sizes.append(os.path.getsize(path))
        return stream

    monkeypatch.setattr(spool, "open", watched, raising=False)
    fill(queue, 2, 3)
    assert sizes == [24]  # opening it did not change it
    assert queue.take() == lines(0, 3)
