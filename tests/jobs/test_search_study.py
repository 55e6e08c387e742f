"""Trials in a journal that workers share: none lost, none twice, the same whoever was killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from gasmcast.core import leases
from gasmcast.core.errors import ConfigError, WorkdirError
from gasmcast.jobs import search_study
from gasmcast.jobs.search_journal import import_optuna
from gasmcast.jobs.search_space import Range
from gasmcast.jobs.search_study import Study
from tests.jobs import search_workers
from tests.jobs.search_workers import RANGES, method, search

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OWN = {"model.width": 3, "optim.lr": 1e-3, "optim.name": (1, 2)}


@pytest.fixture(autouse=True, scope="module")
def no_power_cuts():
  """Without waiting for the disk, which a busy one makes long."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield


def start(*arguments):
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.Popen([sys.executable, search_workers.__file__, *map(str, arguments)], env=environment)


def found(workdir):
  """What the journal says of every trial, without times."""
  trials = Study(workdir, RANGES, method()).trials()
  return [trial._replace(seconds=0.0, ended=None) for trial in trials]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
  """Twelve trials by one undisturbed worker."""
  folder = tmp_path_factory.mktemp("clean")
  search(folder, 12)
  return found(folder)


def test_a_search_by_one_worker_is_the_same_every_time(tmp_path, clean):
  search(tmp_path, 12)
  assert found(tmp_path) == clean
  assert {trial.state for trial in clean} == {"complete"} and [trial.number for trial in clean] == list(range(12))
  assert search(tmp_path / "other", 3, seed=1).trials()[0].values != clean[0].values


def test_it_finds_better_values_than_it_began_with(tmp_path):
  values = [trial.value for trial in search(tmp_path, 40).trials()]
  assert max(values[4:]) > max(values[:4]) and max(values) > 0.85


def test_trials_are_the_total_however_often_it_is_run(tmp_path, clean):
  search(tmp_path, 5)
  search(tmp_path, 5)
  assert found(tmp_path) == clean[:5]
  search(tmp_path, 12)
  assert found(tmp_path) == clean


def test_values_come_back_as_they_are_in_the_range(clean):
  for trial in clean:
    assert all(trial.values[name] in one for name, one in RANGES.items())
  assert {type(trial.values["optim.name"]) for trial in clean} >= {str}
  assert any(trial.values["optim.name"] == (1, 2) for trial in clean)


def test_steps_give_values_as_people_write_them(tmp_path):
  ranges = {"model.dropout": Range("model.dropout", "float", 0.0, 0.5, step=0.1)}
  study = Study(tmp_path, ranges, method())
  for claim in study.claims(20):
    with claim:
      claim.complete(0.0, 1, 1)
  assert {trial.values["model.dropout"] for trial in study.trials()} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}


def test_known_points_come_first_and_once(tmp_path):
  for _ in range(2):
    study = Study(tmp_path, RANGES, method())
    with study.preparing():
      study.enqueue([OWN, OWN | {"model.width": 5}], baseline=True)
  search(tmp_path, 4)
  trials = found(tmp_path)
  assert [trial.origin for trial in trials] == ["config", "known", "sampler", "sampler"]
  assert trials[0].values == OWN and trials[1].values == OWN | {"model.width": 5}
  assert trials[0].value == pytest.approx(search_workers.value(OWN, 4))


@pytest.mark.reliability
@pytest.mark.parametrize("step", [0, 2])
def test_the_trial_of_a_killed_worker_is_resumed_at_once_and_the_search_is_the_same(tmp_path, clean, step):
  assert start("die", tmp_path, 12, 6, step).wait(timeout=100) == -signal.SIGKILL
  assert found(tmp_path)[6].state == "running"
  search(tmp_path, 12)
  assert found(tmp_path) == clean
  assert (tmp_path / "6.starts").read_text() == f"{os.getpid()} {step}\n"


def test_a_trial_whose_worker_died_while_it_was_made_gets_the_values_it_would_have_had(tmp_path, clean):
  search(tmp_path, 6)
  study = Study(tmp_path, RANGES, method())
  study._study.sampler = study._sampler(6)
  study._study.ask({"model.width": study._distributions["model.width"]})  # and no other
  assert set(found(tmp_path)[6].values) == {"model.width"}
  search(tmp_path, 12)
  assert found(tmp_path)[6] == clean[6] and found(tmp_path) == clean


def working(workdir):
  """Processes that are in the middle of a trial."""
  pids = set()
  for path in (workdir / "trials").glob(".[0-9]*.claim"):
    holder, begun = leases.read_holder(path), workdir / f"{path.name.split('.')[1]}.starts"
    lines = begun.read_text().splitlines() if begun.exists() else []
    if holder is not None and lines and lines[-1].startswith(f"{holder.pid} "):
      pids.add(holder.pid)
  return pids


def begun_again(folder):
  """Processes that took up a trial that had been begun twice before."""
  lines = [path.read_text().splitlines() for path in folder.glob("*.starts")]
  return {int(starts[-1].split()[0]) for starts in lines if len(starts) > 2}


@pytest.mark.reliability
@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.long)])
def test_workers_killed_at_random_share_the_trials_and_lose_none(tmp_path, kills):
  total = 10 * kills
  workers = [start("search", tmp_path, total, 0.05) for _ in range(3)]
  for number in range(kills):
    holding = []
    while not holding:
      pids = working(tmp_path) - begun_again(tmp_path)  # a trial whose worker is killed again and again would fail
      holding = [worker for worker in workers if worker.pid in pids and worker.poll() is None]
      assert any(worker.poll() is None for worker in workers), "all was done before all were killed"
      time.sleep(0.005)
    killed = holding[number % len(holding)]
    killed.kill()
    killed.wait()
    workers[workers.index(killed)] = start("search", tmp_path, total, 0.05)
  for worker in workers:
    assert worker.wait(timeout=300) == 0
  trials = found(tmp_path)
  assert [trial.number for trial in trials] == list(range(total)) and {trial.state for trial in trials} == {"complete"}
  assert len({trial.values["optim.lr"] for trial in trials}) == total  # no two workers drew the same
  for trial in trials:
    assert list(trial.curve) == [1, 2, 3, 4] and trial.value == search_workers.value(trial.values, 4)
  lines = [line for number in range(total) for line in (tmp_path / f"{number}.starts").read_text().splitlines()]
  assert total + 1 <= len(lines) <= total + kills  # one may have been killed just after its trial had ended
  print(f"{kills} kills among 3 workers: {total} trials, 0 lost, 0 twice; {len(lines) - total} resumed")


def test_a_trial_that_kills_its_workers_fails_and_the_search_goes_on(tmp_path):
  search(tmp_path, 1)
  for _ in range(3):
    with next(Study(tmp_path, RANGES, method()).claims(3)) as claim:
      assert claim.trial.number == 1 and claim.begin(0) == ""
  search(tmp_path, 3)
  trials = found(tmp_path)
  assert [trial.state for trial in trials] == ["complete", "failed", "complete"]
  assert trials[1].reason == "its worker was killed 3 times at step 0; most often that means that memory was short."


def test_an_interruption_in_order_is_not_held_against_a_trial(tmp_path):
  for _ in range(5):
    with next(Study(tmp_path, RANGES, method()).claims(1)) as claim:
      assert claim.begin(0) == ""
      claim.leave()
  search(tmp_path, 1)
  assert found(tmp_path)[0].state == "complete"


def test_a_living_worker_keeps_its_trial(tmp_path):
  with (
    next(Study(tmp_path, RANGES, method()).claims(2)) as first,
    next(Study(tmp_path, RANGES, method()).claims(2)) as second,
  ):
    assert (first.trial.number, second.trial.number) == (0, 1)
    assert Study(tmp_path, RANGES, method())._next(2) == (None, False)  # to stand by: either may die
    first.complete(0.5, 1, 1)
    second.fail("no reason", 1)
    assert Study(tmp_path, RANGES, method())._next(2) == (None, True)


def test_a_trial_that_is_worse_than_the_median_ends_early(tmp_path):
  trials = search(tmp_path, 20, pruner="median").trials()
  pruned = [trial for trial in trials if trial.state == "pruned"]
  assert pruned and all(trial.steps < search_workers.STEPS for trial in pruned)
  assert max(trials, key=lambda trial: trial.value).state == "complete"
  for trial in pruned:
    assert trial.value == max(trial.curve.values()) and trial.best_step == trial.steps


def test_nobody_ends_early_before_the_grace_is_over(tmp_path):
  trials = search(tmp_path, 15, pruner="median", first=3).trials()
  assert {trial.steps for trial in trials if trial.state == "pruned"} == {3}


def test_hyperband_ends_trials_early(tmp_path):
  trials = search(tmp_path, 15, pruner="hyperband").trials()
  assert {trial.state for trial in trials} == {"pruned", "complete"}


def test_least_can_be_best(tmp_path):
  study = Study(tmp_path, RANGES, method(mode="min"))
  with next(study.claims(1)) as claim:
    for step, number in ((1, 3.0), (2, float("nan")), (3, 2.0), (4, 2.5)):
      claim.report(step, number)
    claim.prune(4)
  (trial,) = study.trials()
  assert (trial.value, trial.best_step, trial.steps, trial.state) == (2.0, 3, 4, "pruned")


def test_a_validation_that_is_reported_again_counts_once(tmp_path):
  with next(Study(tmp_path, RANGES, method()).claims(1)) as claim:
    claim.report(1, 0.25)
    claim.report(1, 0.25)
    claim.complete(0.25, 1, 1)
  assert found(tmp_path)[0].curve == {1: 0.25}


def test_a_line_that_a_crash_cut_off_is_removed(tmp_path, clean):
  search(tmp_path, 5)
  journal = tmp_path / search_study.JOURNAL
  whole = journal.read_bytes()
  journal.write_bytes(whole + b'{"op_code":4,"wor')
  search(tmp_path, 12)
  assert found(tmp_path) == clean
  assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_damaged_journal_is_told_in_words(tmp_path):
  search(tmp_path, 2)
  journal = tmp_path / search_study.JOURNAL
  lines = journal.read_text().splitlines(keepends=True)
  journal.write_text("".join([*lines[:3], "half a li\n", *lines[3:]]))
  with pytest.raises(WorkdirError, match=r"journal\.log is damaged \(.*\); move it away to begin anew: trainings in"):
    Study(tmp_path, RANGES, method())


def test_a_folder_that_cannot_be_written_is_told_in_words(tmp_path):
  (tmp_path / "trials").write_text("a file")
  with pytest.raises(WorkdirError, match=r"can't be used: File exists"):
    Study(tmp_path, RANGES, method())


def test_importances_need_trials_that_differ(tmp_path):
  study = search(tmp_path, 3)
  assert study.importances() == {}
  study = search(tmp_path, 20)
  shares = study.importances()
  assert set(shares) == set(RANGES) and sum(shares.values()) == pytest.approx(1)


def test_without_optuna_one_line_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(sys.modules, "optuna", None)
  with pytest.raises(
    ConfigError, match=r'^job search needs Optuna, which is not installed: pip install "gasmcast\[search\]"$'
  ):
    import_optuna()
