"""Whatever happens to the files of the newest checkpoint is found, and the one before is used."""

import pathlib
import random
import shutil

import pytest

from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.state import fingerprint
from tests.training.test_checkpoint import IDENTITY, at_step, restore, save_all


@pytest.fixture
def two_steps(tmp_path, new_state):
  """(folder with the steps 1 and 2, a state, the hash of the state of step 1)."""
  state = new_state()
  save_all(tmp_path, state, {1: None, 2: None})
  return tmp_path, state, fingerprint(at_step(state, 1))


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def falls_back(folder, state, expected) -> bool:
  """Whether the damage was found, told, and step 1 restored bit for bit."""
  restored = restore(folder, state)
  found = len(restored.notes) == 1 and restored.notes[0].startswith("Step 2 ")
  return found and fingerprint(restored.state) == expected


@pytest.mark.reliability(5)
@pytest.mark.parametrize("flips", [10, pytest.param(100, marks=pytest.mark.long)])
def test_no_flipped_bit_is_silent(two_steps, flips, figure):
  folder, state, expected = two_steps
  draw, found = random.Random(flips), 0
  places = files(folder / "2")
  for _ in range(flips):
    path = draw.choices(places, [place.stat().st_size for place in places])[0]  # every byte is as likely
    before = path.read_bytes()
    place, bit = draw.randrange(len(before)), draw.randrange(8)
    path.write_bytes(before[:place] + bytes([before[place] ^ 1 << bit]) + before[place + 1 :])
    found += falls_back(folder, state, expected)
    path.write_bytes(before)
  assert found == flips
  assert int(restore(folder, state).state.step) == 2  # it was the flips alone
  figure(f"{found} of {flips} flips in {len(places)} files found, the step before restored bit for bit each time")


@pytest.mark.reliability(6)
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_a_file_that_is_cut_emptied_or_gone_is_found(two_steps, every, figure):
  folder, state, expected = two_steps
  damages = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
  }
  cases = [(path, name) for path in files(folder / "2") for name in damages][::every]
  found = 0
  for path, name in cases:
    before = path.read_bytes()
    damages[name](path)
    found += falls_back(folder, state, expected)
    path.write_bytes(before)
  assert found == len(cases)
  figure(f"{found} of {len(cases)} files cut, emptied or deleted found; the step before restored each time")


@pytest.mark.parametrize("part", ["state", "meta", ""])
def test_a_folder_that_is_gone_is_found(two_steps, part):
  folder, state, expected = two_steps
  shutil.rmtree(folder / "2" / part)
  restored = restore(folder, state)
  assert fingerprint(restored.state) == expected
  assert len(restored.notes) == (part != "")  # without its folder there was no step 2


def test_the_good_step_stays_until_another_good_one_is_there(two_steps, new_state):
  """A step that can't be restored does not count among the two that are kept."""
  folder, state, _ = two_steps
  path = max(files(folder / "2" / "state"), key=lambda path: path.stat().st_size)
  path.write_bytes(path.read_bytes()[:-1])
  with Checkpoints(folder) as checkpoints:
    assert int(checkpoints.restore(state, IDENTITY).state.step) == 1
    assert checkpoints.steps() == [1, 2]  # looking changes nothing
    checkpoints.save(at_step(state, 3), {"identity": IDENTITY})
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3]
    checkpoints.save(at_step(state, 4), {"identity": IDENTITY})
  assert int(restore(folder, state).state.step) == 4
  with Checkpoints(folder) as checkpoints:
    assert checkpoints.steps() == [3, 4]


def test_a_step_to_go_back_to_is_kept_besides_the_others(tmp_path, new_state):
  state = new_state()
  with Checkpoints(tmp_path) as checkpoints:
    for step, good in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 5), (6, 5)):
      checkpoints.save(at_step(state, step), {"identity": IDENTITY}, best_step=None, good_step=good)
      checkpoints.wait()
      assert checkpoints.steps() == {1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 3, 4], 5: [1, 4, 5], 6: [5, 6]}[step]
