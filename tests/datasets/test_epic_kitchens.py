"""Segments of EPIC-KITCHENS-100: when they begin and end, where their videos lie, what is odd about them."""

import pathlib

import pytest

from gasmcast.core.errors import ConfigError, DataError
from gasmcast.datasets import epic_kitchens
from gasmcast.datasets.csv_rows import Row
from gasmcast.datasets.dataset import require_labels
from gasmcast.datasets.epic_kitchens import load, oddities, participant, python_list, tail_classes, unseen_participants

COLUMNS = (
  "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
  "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
ROWS = (
  "P01_11_0,P01,P01_11,00:00:00.560,00:00:00.00,00:00:01.89,1,113,take plate,take,0,plate,2,['plate'],[2]",
  "P01_101_3,P01,P01_101,,01:02:03.50,01:02:04.25,186175,186212,put slowly,put,1,tap,0,\"['tap', 'tap:a']\",\"[0, 0]\"",
)
LISTS = {
  "EPIC_100_verb_classes.csv": ("id,key,instances,category", "0,take,['take'],retrieve", "1,put,['put'],leave"),
  "EPIC_100_noun_classes.csv": ("id,key,instances,category", "0,tap,['tap'],a", "1,spoon,['spoon'],b", "2,plate,[],c"),
  "EPIC_100_video_info.csv": ("video_id,duration,fps,resolution", "P01_11,100.5,59.94,1x1", "P01_101,3800,50.0,1x1"),
  "EPIC_100_unseen_participant_ids_validation.csv": ("participant_id", "P18", "P32"),
  "EPIC_100_tail_verbs.csv": ("verb", "1"),
  "EPIC_100_tail_nouns.csv": ("noun", "0", "2"),
}
VIDEOS = ("P01/videos/P01_11.MP4", "P01/videos/P01_101.MP4")


def write(root, rows=ROWS, columns=COLUMNS, media=VIDEOS, folder=".", split="train", **lists):
  (root / folder).mkdir(exist_ok=True)
  named = {f"EPIC_100_{name}.csv": lines for name, lines in lists.items()}
  for name, lines in {**LISTS, epic_kitchens.LISTS[split]: (columns, *rows), **named}.items():
    (root / folder / name).write_text("\n".join(lines) + "\n")
  for path in media:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()
  return root


def test_segments_of_video_files_are_in_seconds_from_the_timestamps(tmp_path):
  dataset = load(write(tmp_path), "train")
  first, second = dataset.examples
  assert (first.id, first.labels, first.group, first.rate) == ("P01_11_0", {"verb": 0, "noun": 2}, "P01_11", None)
  assert (first.start, first.stop, second.start, second.stop) == (0.0, 1.89, 3723.5, 3724.25)
  assert first.path == str(tmp_path / "P01" / "videos" / "P01_11.MP4")
  assert dataset.classes == {"verb": ("take", "put"), "noun": ("tap", "spoon", "plate")}
  assert (dataset.name, participant(second)) == ("epic_kitchens", "P01")
  require_labels(dataset)


def test_segments_of_extracted_frames_are_the_numbered_files_start_to_stop(tmp_path):
  frames = ("P01/rgb_frames/P01_11/frame_0000000001.jpg", "P01/rgb_frames/P01_101/frame_0000000001.jpg")
  first, second = load(write(tmp_path, media=frames), "train").examples
  assert first.path == str(tmp_path / "P01" / "rgb_frames" / "P01_11")
  assert (first.rate, second.rate) == (60.0, 50.0)  # an early video, and one of the extension
  # File 1 is the first frame, number 0 on the time axis; file 113 is the first that no longer belongs to the segment.
  assert (first.start * 60, first.stop * 60, second.start * 50, second.stop * 50) == (0, 112, 186174, 186211)


@pytest.mark.parametrize(
  "place", ["P01/videos/{}.MP4", "videos/P01/{}.mp4", "videos/{}.MP4", "rgb_frames/P01/{}/1.jpg", "rgb_frames/{}/1.jpg"]
)
def test_videos_are_found_in_the_usual_places(tmp_path, place):
  media = [place.format(video) for video in ("P01_11", "P01_101")]
  paths = [pathlib.Path(example.path) for example in load(write(tmp_path, media=media), "train").examples]
  assert all(path.exists() for path in paths) and len(set(paths)) == 2


def test_a_video_that_is_missing_is_named_where_the_others_lie(tmp_path):
  assert load(write(tmp_path, media=VIDEOS[:1]), "train").examples[1].path == str(tmp_path / VIDEOS[1])
  with pytest.raises(
    DataError,
    match=r"no video of the split 'train'; for P01_11 looked for P01/rgb_frames/P01_11, rgb_frames/P01/P01_11",
  ):
    load(tmp_path, "train", media="frames")


def test_files_come_before_frames_unless_frames_are_asked_for(tmp_path):
  write(tmp_path, media=(*VIDEOS, "rgb_frames/P01_11/1.jpg"))
  assert load(tmp_path, "train").examples[0].rate is None
  assert load(tmp_path, "train", media="frames").examples[0].rate == 60
  with pytest.raises(ConfigError, match=r"media = 'mp4' is none of auto, videos, frames"):
    load(tmp_path, "train", media="mp4")


def test_the_test_split_has_no_labels(tmp_path):
  columns, rows = COLUMNS.split(",narration,")[0], [",".join(ROWS[0].split(",")[:8])]
  dataset = load(write(tmp_path, rows, columns, split="test"), "test")
  assert dataset.examples[0].labels == {} and dataset.examples[0].stop == 1.89
  with pytest.raises(DataError, match=r"1 of 1 examples of the split 'test' have no answers"):
    require_labels(dataset)
  with pytest.raises(DataError, match=r"line 1: no column 'verb_class' among"):
    load(write(tmp_path, rows, columns), "train")


def test_lists_may_lie_in_the_folder_of_their_repository_and_be_others(tmp_path):
  write(tmp_path, folder="epic-kitchens-100-annotations")
  (tmp_path / "some.csv").write_text(f"{COLUMNS}\n{ROWS[1]}\n")
  assert len(load(tmp_path, "train").examples) == 2
  assert [example.id for example in load(tmp_path, "train", annotations="some.csv").examples] == ["P01_101_3"]


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("P01_11_0", "P01_101_3", r"line 3, column narration_id: 'P01_101_3' gives 'P01_101_3', as line 2 does"),
    ("P01_11_0", "../0", r"line 2, column narration_id: '../0' is no plain file name"),
    ("P01,P01_11", "P01,P01-11", r"line 2, column video_id: 'P01-11' is no video such as P01_01 or P01_101"),
    ("P01,P01_11", "P02,P01_11", r"column participant_id: 'P02' is not the participant of the video P01_11"),
    ("00:00:01.89", "1.89", r"line 2, column stop_timestamp: '1.89' is no time such as 00:01:23.45"),
    ("00:00:01.89", "00:00:61.89", r"is no time such as"),
    (",take,0,", ",take,2,", r"line 2, column verb_class: '2' is no whole number from 0 to 1"),
    (",plate,2,", ",plate,x,", r"line 2, column noun_class: 'x' is no whole number from 0 to 2"),
  ],
)
def test_what_is_wrong_with_a_segment_is_said_with_its_place(tmp_path, old, new, message):
  with pytest.raises(DataError, match=message):
    load(write(tmp_path, [row.replace(old, new) for row in ROWS]), "train")


def test_frames_are_numbered_from_1_and_need_their_columns(tmp_path):
  write(tmp_path, [ROWS[0].replace(",1,113,", ",0,113,")], media=("rgb_frames/P01_11/1.jpg",))
  with pytest.raises(DataError, match=r"line 2, column start_frame: '0' is no whole number of at least 1"):
    load(tmp_path, "train")
  with pytest.raises(DataError, match=r"has no columns start_frame and stop_frame, which extracted frames need"):
    load(write(tmp_path, columns=COLUMNS.replace("_frame", "")), "train", media="frames")


@pytest.mark.parametrize(
  ("lists", "message"),
  [
    (
      {"verb_classes": ("id,key", "0,take", "2,put")},
      r"verb_classes.csv, line 3, column id: '2' is no whole number from",
    ),
    (
      {"verb_classes": ("id,key", "0,take", "0,put")},
      r"verb_classes.csv, line 3, column id: '0' gives 0, as line 2 does",
    ),
    (
      {"noun_classes": ("id,key", "0,a", "1,a")},
      r"noun_classes.csv, line 3, column key: 'a' gives 'a', as line 2 does",
    ),
    ({"noun_classes": ("id,name", "0,a")}, r"noun_classes.csv, line 1: no column 'key' among 'id,name'"),
  ],
)
def test_what_is_wrong_with_the_classes_is_said(tmp_path, lists, message):
  with pytest.raises(DataError, match=message):
    load(write(tmp_path, **lists), "train")


def test_missing_lists_are_named_with_the_places_where_they_were_looked_for(tmp_path):
  (tmp_path / "videos").mkdir()
  with pytest.raises(
    DataError,
    match=r"no EPIC_100_verb_classes.csv \(looked for EPIC_100_verb_classes.csv, epic-kitchens-100-annotations/EPIC",
  ):
    load(tmp_path, "train")
  with pytest.raises(DataError, match=r"absent is not a folder; give the one that holds EPIC_100_train.csv"):
    load(tmp_path / "absent", "train")


def test_the_second_list_of_nouns_gives_the_same_300(tmp_path, shared_data):
  write(tmp_path)
  for name in ("noun_classes", "noun_classes_v2"):
    file = shared_data / "annotations" / "epic100" / f"EPIC_100_{name}.csv"
    (tmp_path / file.name).write_bytes(file.read_bytes())
  nouns = load(tmp_path, "train").classes["noun"]
  (tmp_path / "EPIC_100_noun_classes.csv").unlink()
  assert load(tmp_path, "train").classes["noun"] == nouns and len(nouns) == 300


def test_subsets_for_the_metrics(tmp_path):
  assert unseen_participants(write(tmp_path)) == ("P18", "P32")
  assert tail_classes(tmp_path) == {"verb": (1,), "noun": (0, 2)}
  with pytest.raises(DataError, match=r"tail_verbs.csv, line 2, column verb: '2' is no whole number from 0 to 1"):
    tail_classes(write(tmp_path, tail_verbs=("verb", "2")))


def test_oddities_are_counted_and_the_segments_kept(tmp_path):
  rows = [
    *ROWS,
    ROWS[0].replace("_0,", "_1,").replace("00:00:01.89,1,113", "00:00:00.00,1,1"),
    ROWS[0].replace("_0,", "_2,").replace("00:00:00.00,00:00:01.89,1,113", "00:01:40.00,00:01:41.00,6000,6060"),
    ROWS[0].replace("_0,", "_3,").replace("00:00:00.00,00:00:01.89,1,113", "00:01:41.00,00:01:42.00,6060,6120"),
    ROWS[0].replace("_0,", "_4,").replace(",113,", ",117,").replace("[2]", '"[1, 2]"'),
    ROWS[0].replace("P01_11", "P01_12"),
  ]
  assert oddities(write(tmp_path, rows), "train") == {
    "no video info": 1,
    "ends before it begins": 1,
    "begins beyond the end": 1,
    "ends beyond the end": 1,
    "frames elsewhere": 1,
    "another noun first": 1,
  }
  assert len(load(tmp_path, "train").examples) == len(rows)


@pytest.mark.parametrize(
  ("text", "items"),
  [
    ("[]", []),
    ("['door']", ["door"]),
    ("""['a b:c', "chef's knife" ]""", ["a b:c", "chef's knife"]),
    ("[3, 13]", ["3", "13"]),
    ("['a, b','c']", ["a, b", "c"]),
  ],
)
def test_lists_in_the_notation_of_python_are_read(text, items):
  assert python_list(Row(pathlib.Path("x.csv"), 7, {"nouns": text}), "nouns") == items


@pytest.mark.parametrize(
  "text", ["", "[", "door", "['a' 'b']", "['a',]", "[a]", "[__import__('os')]", "['a\\'b']", "[1,,2]"]
)
def test_what_is_no_list_is_refused(text):
  with pytest.raises(
    DataError, match=r"x.csv, line 7, column nouns: .* is no list such as \['door', 'cup'\] or \[3, 13\]"
  ):
    python_list(Row(pathlib.Path("x.csv"), 7, {"nouns": text}), "nouns")


def real(shared_data, tmp_path):
  for file in (shared_data / "annotations" / "epic100").glob("*.csv"):
    (tmp_path / file.name).symlink_to(file)
  (tmp_path / "videos").mkdir()
  for video in ("P01_11", "P01_101", "P01_01"):
    (tmp_path / "videos" / f"{video}.MP4").touch()
  return tmp_path


def test_the_official_lists_have_their_official_counts(shared_data, tmp_path):
  root = real(shared_data, tmp_path)
  validation, test = load(root, "validation"), load(root, "test")
  source = load(root, "train", annotations="EPIC_100_uda_source_train.csv")
  assert len(validation.examples) == epic_kitchens.OFFICIAL["validation"] == 9_668
  assert len(test.examples) == epic_kitchens.OFFICIAL["test"] == 13_092 and not test.examples[0].labels
  assert len(source.examples) == 16_115
  assert {label: len(names) for label, names in validation.classes.items()} == epic_kitchens.OFFICIAL_CLASSES
  assert (len({example.group for example in validation.examples}), validation.examples[0].stop) == (138, 1.89)
  videos = [{example.group for example in dataset.examples} for dataset in (validation, test, source)]
  assert sum(map(len, videos)) == len(set.union(*videos))  # no video in two splits
  unseen = unseen_participants(root)
  assert sum(participant(example) in unseen for example in validation.examples) == 1_065
  assert {label: len(classes) for label, classes in tail_classes(root).items()} == {"verb": 86, "noun": 228}


def test_official_frames_are_counted_at_60_and_50_and_not_at_the_rate_of_the_video(shared_data, tmp_path):
  root = real(shared_data, tmp_path)
  for split, annotations in (("validation", ""), ("test", ""), ("train", "EPIC_100_uda_source_train.csv")):
    found = oddities(root, split, annotations=annotations)
    assert found.pop("ends beyond the end") == (split == "validation")  # by 13 ms
    assert not any(found.values())
