"""Lists of checksums as the common programs write them."""

import hashlib

import blake3
import pytest

from gasmcast.core.checksums import Checksum, digests, entry, parse_entry, read_lists
from gasmcast.core.errors import DataError

CONTENT = b"some bytes"
DIGESTS = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha1", "sha256")}
DIGESTS["blake3"] = blake3.blake3(CONTENT).hexdigest()


def write(tmp_path, text, name="sums"):
  file = tmp_path / name
  file.write_text(text)
  return file


@pytest.mark.parametrize(
  ("line", "name", "algorithm"),
  [
    (f"{DIGESTS['md5']}  a.zip", "a.zip", "md5"),
    (f"{DIGESTS['sha1']} *a.zip", "a.zip", "sha1"),
    (f"{DIGESTS['sha256'].upper()}  ./x y/a.zip", "x y/a.zip", "sha256"),
    (f"SHA256 (a.zip) = {DIGESTS['sha256']}", "a.zip", "sha256"),
    (f"BLAKE3 (a.zip) = {DIGESTS['blake3']}", "a.zip", "blake3"),
    (f"MD5 (a (1).zip) = {DIGESTS['md5']}", "a (1).zip", "md5"),
    (f"\\{DIGESTS['md5']}  a\\nb\\\\c", "a\nb\\c", "md5"),
  ],
)
def test_every_way_to_write_an_entry_is_read(tmp_path, line, name, algorithm):
  sums = read_lists([write(tmp_path, f"# a comment\n\n{line}\n")])
  assert list(sums) == [name] and sums.find(name) == (name, Checksum(algorithm, DIGESTS[algorithm]))


def test_64_digits_are_of_the_algorithm_that_the_name_of_the_list_says(tmp_path):
  lists = [write(tmp_path, f"{DIGESTS['blake3']}  {name}", name) for name in ("B3SUMS", "sums.blake3", "SHA256SUMS")]
  assert [read_lists([one]).find(one.name)[1].algorithm for one in lists] == ["blake3", "blake3", "sha256"]


def test_a_path_is_found_by_its_longest_ending(tmp_path):
  sums = read_lists([write(tmp_path, "".join(f"{c * 32}  {n}\n" for c, n in (("a", "1.mp4"), ("b", "x/1.mp4"))))])
  digest = lambda path: sums.find(path) and sums.find(path)[1].digest[0]
  assert [digest(path) for path in ("/d/x/1.mp4", "/d/y/1.mp4", "1.mp4", "/d/11.mp4")] == ["b", "a", "a", None]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("nothing", r"sums, line 1: 'nothing' is no checksum; md5sum, sha1sum, sha256sum and b3sum write"),
    ("a" * 32 + "  a\n" + "b" * 33 + "  a", r"sums, line 2: '" + "b" * 33),
    ("MD5 (a) = " + "a" * 40, r"line 1: 'MD5 \(a\) = aa"),
    ("a" * 32 + "  a\n" + "b" * 32 + "  a", r"sums, line 2: 'a' has another checksum before; remove the wrong one"),
  ],
)
def test_what_is_no_list_is_refused(tmp_path, text, message):
  with pytest.raises(DataError, match=message):
    read_lists([write(tmp_path, text)])


def test_unreadable_lists_are_refused(tmp_path):
  with pytest.raises(DataError, match=r"absent: the list of checksums can't be read: No such file"):
    read_lists([tmp_path / "absent"])
  (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
  with pytest.raises(DataError, match=r"binary is not UTF-8 text; give a list as md5sum"):
    read_lists([tmp_path / "binary"])


def test_a_file_is_hashed_by_several_algorithms_at_once(tmp_path):
  (tmp_path / "file").write_bytes(CONTENT)
  assert digests(tmp_path / "file", DIGESTS) == DIGESTS


@pytest.mark.parametrize("name", ["/a/b c.webm", "a\nb", "a\\b", "\\n", "ä"])
def test_what_is_written_is_read_again(tmp_path, name):
  line = entry(name, DIGESTS["blake3"])
  assert line.endswith("\n") and line.count("\n") == 1
  assert parse_entry(line[:-1]) == (name, DIGESTS["blake3"])
  assert list(read_lists([write(tmp_path, line, "sums.b3")])) == [name]
  assert parse_entry("anything else") is None
