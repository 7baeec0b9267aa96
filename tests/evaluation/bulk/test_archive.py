"""Images in tar archives, of which nothing is ever written to a disk."""

import gzip
import io
import tarfile

import pytest

from edgeclf.errors import DataError, ImageError
from edgeclf.evaluation.bulk.archive import Member, archived_images, read_member

JPEG = b"\xff\xd8 not decoded here"


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def archive(path, *members, form=tarfile.PAX_FORMAT):
    """Write an archive: names of files with the content of JPEG, or TarInfos."""
    with tarfile.open(path, "w", format=form) as tar:
        for one in members:
            info = member(one, size=len(JPEG)) if isinstance(one, str) else one
            tar.addfile(info, io.BytesIO(JPEG) if info.isreg() else None)
    return path


def names(path):
    return [one.name for one in archived_images(path) if isinstance(one, Member)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_images_are_found_in_their_order_and_read_by_their_offset(tmp_path, form):
    long = "é" * 60 + "/" + "b" * 80 + ".webp"
    path = archive(tmp_path / "a.tar", "7.jpg", "7.cls", "7.json", "./2.PNG", long, "._7.jpg", "Thumbs.db", form=form)
    found = list(archived_images(path))
    assert [one.name for one in found] == ["7.jpg", "2.PNG", long]
    assert {read_member(str(path), one, "it") for one in found} == {JPEG}


def test_links_devices_and_folders_are_left_out(tmp_path):
    others = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    links = [member(f"{number}.jpg", type=kind, linkname="/etc/passwd") for number, kind in enumerate(others)]
    assert names(archive(tmp_path / "a.tar", *links, "right.jpg")) == ["right.jpg"]


def test_a_path_that_leads_elsewhere_is_only_a_name(tmp_path):
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "in" / "a.tar", "../../out.jpg", "/out.jpg")
    assert names(path) == ["../../out.jpg", "/out.jpg"]
    assert [one.name for one in tmp_path.rglob("*")] == ["in", "a.tar"]


@pytest.mark.parametrize(
    ("left", "count", "byte"),
    [(530, 0, 0), (600, 1, 600), (1024 + 10, 1, 1024), (1024 + 512, 1, 1024), (2048, 2, 2048)],
)
def test_the_images_before_the_place_where_an_archive_is_cut_off_are_found(tmp_path, left, count, byte):
    path = archive(tmp_path / "a.tar", "1.jpg", "2.jpg", "3.jpg", form=tarfile.GNU_FORMAT)
    path.write_bytes(path.read_bytes()[:left])
    *found, damage = archived_images(path)
    assert [one.name for one in found] == ["1.jpg", "2.jpg", "3.jpg"][:count]
    assert isinstance(damage, ImageError)
    assert f"a.tar: the archive is damaged or cut off at byte {byte} of {left}" in str(damage)


def test_the_images_before_a_damaged_header_are_found(tmp_path):
    path = archive(tmp_path / "a.tar", "1.jpg", "2.jpg", form=tarfile.GNU_FORMAT)
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 0xFF
    path.write_bytes(data)
    found, damage = archived_images(path)
    assert (found.name, "at byte 1024 of" in str(damage)) == ("1.jpg", True)


def hostile(kind, size):
    """A header that says its data has this size, with no data."""
    info = member("x", type=kind, size=max(0, size))
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("size", [-1024, -(1 << 40), 1 << 50])
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE]
)
def test_a_header_that_lies_about_its_size_is_damage(tmp_path, kind, size):
    path = archive(tmp_path / "a.tar", "1.jpg", form=tarfile.GNU_FORMAT)
    path.write_bytes(path.read_bytes()[:1024] + hostile(kind, size) + b"\0" * 1024)
    found = list(archived_images(path))
    assert found[0].name == "1.jpg"
    assert isinstance(found[-1], ImageError)


def test_attributes_are_not_read_whatever_size_they_have(tmp_path):
    path = tmp_path / "a.tar"
    size = 64 << 20
    with path.open("wb") as stream:
        stream.write(hostile(tarfile.XHDTYPE, size))
        stream.truncate(size + 10_000)
    [damage] = archived_images(path)
    assert isinstance(damage, ImageError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"x" * 600), "compressed by gzip, .* decompress it with gunzip"),
        (b"BZh91AY", "compressed by bzip2"),
        (b"\x28\xb5\x2f\xfd....", "compressed by zstd, .* unzstd"),
        (b"path,label\n" * 100, "is not a tar archive"),
        (b"short", "is not a tar archive"),
    ],
    ids=["gzip", "bzip2", "zstd", "text", "short"],
)
def test_what_is_no_tar_archive_is_refused(tmp_path, content, message):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(archived_images(tmp_path / "a.tar"))


def test_an_image_is_not_read_if_it_is_too_large_or_cut_off_since(tmp_path):
    path = archive(tmp_path / "a.tar", "1.jpg")
    with pytest.raises(ImageError, match=r"^it: larger than the 256 MB"):
        read_member(str(path), Member("1.jpg", 0, 1 << 40), "it")
    with pytest.raises(ImageError, match=r"^it: the archive is cut off"):
        read_member(str(path), Member("1.jpg", 10_000, 1000), "it")
