"""Downloads cut into zipped parts, as Something-Something-V2 comes, and archives that mean harm."""

import gzip
import io
import pathlib
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest

from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.datasets import archives

FOLDER = "20bn-something-something-v2"


def content(number, size=20_000):
  return np.random.default_rng(number).bytes(size)


def tar(members, mode="w:gz"):
  """Bytes of an archive. Members: name -> content, or a TarInfo as it is."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode=mode) as file:
    for name, data in members.items():
      info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
      info.name = name
      if isinstance(data, bytes):
        info.size, info.mtime = len(data), 1_500_000_000
      file.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
  return buffer.getvalue()


def download(folder, data, parts=3, zipped=True, stem=FOLDER, compression=zipfile.ZIP_DEFLATED):
  """Cuts an archive into parts, as the official download is."""
  folder.mkdir(exist_ok=True)
  step = -(-len(data) // parts)
  for number in range(parts):
    piece, name = data[number * step : (number + 1) * step], f"{stem}-{number:02d}"
    if zipped:
      with zipfile.ZipFile(folder / f"{name}.zip", "w", compression) as file:
        file.writestr(name, piece)
    else:
      (folder / name).write_bytes(piece)
  return folder


VIDEOS = {f"{FOLDER}/{number}.webm": content(number) for number in range(12)}


def unpack(source, target):
  (archive,) = archives.find(source)
  return list(archives.unpack(archive, target))


def files(folder):
  return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_parts_zipped_or_not_compressed_or_not_unpack_to_the_same_files(tmp_path, zipped, mode):
  download(tmp_path / "source", tar(VIDEOS, mode), zipped=zipped)
  told = unpack(tmp_path / "source", tmp_path / "target")
  assert files(tmp_path / "target") == VIDEOS
  assert [(one.name, one.size, one.found) for one in told] == [(name, 20_000, False) for name in VIDEOS]
  assert (tmp_path / "target" / FOLDER / "3.webm").stat().st_mtime == 1_500_000_000


def test_one_file_is_an_archive_too_and_other_files_are_not(tmp_path):
  (tmp_path / "clips.tar.gz").write_bytes(tar(VIDEOS))
  (tmp_path / "notes-01").write_text("no archive")
  (tmp_path / "labels.zip").write_bytes(b"")
  (archive,) = archives.find(tmp_path)
  assert archive.name == "clips.tar.gz" and archive.size == (tmp_path / "clips.tar.gz").stat().st_size


def test_where_parts_lie_zipped_and_unzipped_each_is_read_once(tmp_path):
  data = tar(VIDEOS)
  download(tmp_path, data)
  download(tmp_path, data, zipped=False)
  (archive,) = archives.find(tmp_path)
  assert [part.file.name for part in archive.parts] == [f"{FOLDER}-{number:02d}.zip" for number in range(3)]


def test_the_same_content_is_left_alone_and_another_one_replaced(tmp_path):
  download(tmp_path / "source", tar(VIDEOS))
  unpack(tmp_path / "source", tmp_path / "target")
  names = list(VIDEOS)
  damaged = {
    names[0]: b"short",
    names[1]: content(99),
    names[2]: VIDEOS[names[2]][:-1] + b"x",
    names[3]: None,
  }
  for name, data in damaged.items():
    file = tmp_path / "target" / name
    file.unlink() if data is None else file.write_bytes(data)
  before = {name: (tmp_path / "target" / name).stat().st_ino for name in names[4:]}
  told = unpack(tmp_path / "source", tmp_path / "target")
  assert files(tmp_path / "target") == VIDEOS
  assert [one.found for one in told] == [False] * 4 + [True] * 8
  assert before == {name: (tmp_path / "target" / name).stat().st_ino for name in names[4:]}


def test_large_files_that_differ_late_are_put_right(tmp_path):
  big = {"big.webm": content(1, 3 * archives.BLOCK + 5)}
  download(tmp_path / "source", tar(big))
  target = tmp_path / "target"
  target.mkdir()
  wrong = bytearray(big["big.webm"])
  wrong[2 * archives.BLOCK + 7] ^= 1
  (target / "big.webm").write_bytes(wrong)
  assert not unpack(tmp_path / "source", target)[0].found
  assert files(target) == big


def test_what_a_killed_process_left_is_removed(tmp_path):
  download(tmp_path / "source", tar(VIDEOS))
  (tmp_path / "target" / ".unpacking").mkdir(parents=True)
  (tmp_path / "target" / ".unpacking" / "half").write_bytes(b"x")
  unpack(tmp_path / "source", tmp_path / "target")
  assert files(tmp_path / "target") == VIDEOS


def link(kind, target):
  info = tarfile.TarInfo()
  info.type, info.linkname = kind, target
  return info


def special(kind, size=0):
  info = tarfile.TarInfo()
  info.type, info.size = kind, size
  return info


@pytest.mark.reliability(17)
@pytest.mark.parametrize(
  ("name", "member", "message"),
  [
    ("../x", b"x", r"holds '../x', a name that leads elsewhere; don't use this archive"),
    ("a/../../x", b"x", r"a name that leads elsewhere"),
    ("/etc/x", b"x", r"holds '/etc/x', a name that leads elsewhere"),
    ("a\\..\\x", b"x", r"a name that leads elsewhere"),
    ("a\nb", b"x", r"a name that leads elsewhere"),
    ("a" * 1100, b"x", r"a name that leads elsewhere"),
    ("l", link(tarfile.SYMTYPE, "/etc"), r"'l' is a link, a device or a sparse file \(type b'2'\)"),
    ("l", link(tarfile.LNKTYPE, "../x"), r"'l' is a link"),
    ("d", special(tarfile.CHRTYPE), r"'d' is a link, a device"),
    ("d", special(tarfile.FIFOTYPE), r"'d' is a link, a device"),
    ("d", special(tarfile.GNUTYPE_SPARSE), r"a sparse file"),
    ("huge", special(tarfile.REGTYPE, 1 << 40), r"with 'huge' \(1,099,511,627,776 bytes\) it grows beyond"),
    ("many", special(tarfile.REGTYPE, 300 << 20), r"it grows beyond 20 times its size"),
  ],
)
def test_hostile_members_end_the_unpacking_and_write_nothing_elsewhere(tmp_path, name, member, message, figure):
  (tmp_path / "inner").mkdir()
  download(tmp_path / "inner" / "source", tar({"ok.webm": content(1, 100), name: member}), parts=1)
  with pytest.raises(DataError, match=message) as refusal:
    unpack(tmp_path / "inner" / "source", tmp_path / "inner" / "target")
  assert "\n" not in str(refusal.value)
  assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == {
    f"inner/source/{FOLDER}-00.zip",
    "inner/target/ok.webm",
  }
  figure("members of archives that lead elsewhere, are links or devices, or grow too large: refused, nothing written")


@pytest.mark.reliability
def test_a_header_that_asks_for_all_memory_is_refused(tmp_path):
  info = special(tarfile.XHDTYPE, 200 << 20)
  header = info.tobuf(tarfile.USTAR_FORMAT)
  data = gzip.compress(header + bytes(201 << 20), 1)
  download(tmp_path / "source", data, parts=1)
  tracemalloc.start()
  with pytest.raises(DataError, match=r"is damaged: a header of 209,715,\d+ bytes"):
    unpack(tmp_path / "source", tmp_path / "target")
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 30e6


def test_hidden_files_and_folders_are_passed_over(tmp_path):
  folder = special(tarfile.DIRTYPE)
  members = {"./": special(tarfile.DIRTYPE), "./a": folder, "a/._1.webm": b"x", ".DS_Store": b"y", "./a/1.webm": b"z"}
  download(tmp_path / "source", tar(members), parts=1)
  unpack(tmp_path / "source", tmp_path / "target")
  assert files(tmp_path / "target") == {"a/1.webm": b"z"}


def cut(data):
  return data[: len(data) // 2]


def flip(data):
  return data[:60_000] + bytes([data[60_000] ^ 1]) + data[60_001:]


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (cut(tar(VIDEOS)), r"ends too early: 20bn-something-something-v2-02 is cut off, or parts after it are missing"),
    (flip(tar(VIDEOS)), r"is damaged: gzip says"),
    (cut(tar(VIDEOS, "w")), r"is cut off in '.*/6.webm': unexpected end of data; download it again"),
    (tar(VIDEOS, "w")[: 20_992 * 6], r"is damaged: after 125,952 bytes there is no member"),
    (gzip.compress(b"no archive" * 100), r"is no tar archive that can be read to its end"),
  ],
  ids=["cut", "flipped", "cut_tar", "ends_between_members", "no_tar"],  # the bytes hold the time of their making
)
def test_damaged_archives_are_refused(tmp_path, data, message):
  download(tmp_path / "source", data, zipped=False)
  with pytest.raises(DataError, match=message):
    unpack(tmp_path / "source", tmp_path / "target")


def test_a_damaged_member_is_not_taken_for_the_end(tmp_path):
  data = bytearray(tar(VIDEOS, "w"))
  data[20_992 * 3 + 148 : 20_992 * 3 + 156] = b"99999999"  # the checksum of the fourth header
  download(tmp_path / "source", bytes(data), zipped=False)
  with pytest.raises(DataError, match=r"is damaged: after [\d,]+ bytes there is no member; download it again"):
    unpack(tmp_path / "source", tmp_path / "target")


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_part_is_named(tmp_path, missing):
  download(tmp_path, tar(VIDEOS))
  (tmp_path / f"{FOLDER}-{missing:02d}.zip").unlink()
  with pytest.raises(DataError, match=rf"v2-{missing:02d} is missing beside part 02; download it"):
    archives.find(tmp_path)


def test_damaged_and_odd_zip_files_are_refused(tmp_path):
  download(tmp_path / "a", tar(VIDEOS), compression=zipfile.ZIP_STORED)
  part = tmp_path / "a" / f"{FOLDER}-01.zip"
  data = bytearray(part.read_bytes())
  data[1000] ^= 1
  part.write_bytes(data)
  with pytest.raises(DataError, match=r"v2-01.zip is damaged: Bad CRC-32"):
    unpack(tmp_path / "a", tmp_path / "target")
  part.write_bytes(data[:1000])
  with pytest.raises(DataError, match=r"v2-01.zip is damaged: File is not a zip file"):
    unpack(tmp_path / "a", tmp_path / "target")
  with zipfile.ZipFile(part, "w") as file:
    file.writestr("x", "x")
    file.writestr("y", "y")
    file.writestr("__MACOSX/y", "z")
  with pytest.raises(DataError, match=r"v2-01.zip holds 2 files; one part of an archive is expected in it"):
    unpack(tmp_path / "a", tmp_path / "target")


def test_an_encrypted_part_is_refused(tmp_path):
  download(tmp_path / "a", tar(VIDEOS))
  part = tmp_path / "a" / f"{FOLDER}-01.zip"
  data = bytearray(part.read_bytes())
  data[6] |= 1
  data[data.rindex(b"PK\x01\x02") + 8] |= 1
  part.write_bytes(data)
  with pytest.raises(DataError, match=r"v2-01.zip: '.*-01' is encrypted; unpack it with its password first"):
    unpack(tmp_path / "a", tmp_path / "target")


def test_a_target_that_cannot_be_written_is_told_with_bytes(tmp_path):
  download(tmp_path / "source", tar(VIDEOS))
  (tmp_path / "target").mkdir()
  (tmp_path / "target" / FOLDER).write_text("a file")
  with pytest.raises(
    WorkdirError, match=r"0.webm can't be written \(.*\): 20,000 bytes needed, [\d,]+ free; make room"
  ):
    unpack(tmp_path / "source", tmp_path / "target")


def test_memory_does_not_depend_on_the_number_of_members(tmp_path):
  source = download(tmp_path / "source", tar({f"a/{number}.webm": b"x" for number in range(6000)}), parts=2)
  (archive,) = archives.find(source)
  held = []
  tracemalloc.start()
  for number, _ in enumerate(archives.unpack(archive, tmp_path / "target")):
    if number % 2000 == 1000:
      held.append(tracemalloc.get_traced_memory()[0])
  tracemalloc.stop()
  assert len(held) == 3 and max(held) - min(held) < 200_000  # 2000 remembered members are 2.5 MB


def test_annotations_come_out_of_their_zip_file(tmp_path):
  with zipfile.ZipFile(tmp_path / "labels.zip", "w") as file:
    file.writestr("labels/labels.json", "{}")
    file.writestr("labels/train.json", "[]")
    file.writestr("../evil.json", "0")
    file.writestr("labels/run.sh", "rm")
  assert archives.unpack_annotations(tmp_path, tmp_path / "out") == tmp_path / "labels.zip"
  assert files(tmp_path / "out") == {"labels.json": b"{}", "train.json": b"[]", "evil.json": b"0"}
  assert archives.unpack_annotations(tmp_path / "out", tmp_path / "out2") is None
  (tmp_path / "labels.zip").write_bytes(b"PK")
  with pytest.raises(DataError, match=r"labels.zip is damaged"):
    archives.unpack_annotations(tmp_path, tmp_path / "out")


def test_unchanged_text_is_not_written_again(tmp_path):
  file = pathlib.Path(tmp_path / "a.json")
  archives.put(file, b"{}")
  before = file.stat().st_ino
  archives.put(file, b"{}")
  assert file.stat().st_ino == before
  archives.put(file, b"[]")
  assert file.read_bytes() == b"[]"
