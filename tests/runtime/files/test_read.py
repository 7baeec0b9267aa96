import os

import pytest

from edgeclf_runtime.files.read import native_path, open_regular, read_bytes, sha256_bytes, sha256_file


def test_a_hash_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == sha256_bytes(b"abc")
    assert sha256_bytes(b"abc").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("make", "kind"),
    [(os.mkfifo, "a pipe"), (os.mkdir, "a folder"), (lambda path: os.symlink("/dev/zero", path), "a device")],
)
def test_anything_but_a_regular_file_is_refused_without_waiting(tmp_path, make, kind):
    path = str(tmp_path / "it")
    make(path)
    for read in (open_regular, sha256_file, lambda path: read_bytes(path, 10)):
        with pytest.raises(OSError, match=f"it is {kind}, a regular file was expected"):
            read(path)


def test_a_link_is_followed_unless_it_is_forbidden(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link", 3) == b"abc"
    with pytest.raises(OSError, match="it is a link"):
        read_bytes(tmp_path / "link", 3, follow=False)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(ValueError, match="larger than 2 bytes"):
        read_bytes(tmp_path / "file", 2)


def test_a_native_path_is_utf8_even_without_a_locale():
    undecoded = "/f\u00fcr".encode("utf-8").decode("ascii", "surrogateescape")
    assert native_path("/f\u00fcr") == "/f\u00fcr"
    assert native_path(undecoded) == "/f\u00fcr"
