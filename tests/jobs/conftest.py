"""The smallest configuration that runs every job, on data rendered once."""

import contextlib
import io
import types

import pytest
from rich.console import Console

from configs import quickstart
from gasmcast.jobs import extract, prepare
from gasmcast.jobs.experiment import Experiment
from tests.datasets.test_archives import FOLDER, download, tar
from tests.jobs import frozen_clips, small_download


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
  """A folder for the tiny rendered data set; the first job generate fills it."""
  return tmp_path_factory.mktemp("data") / "moving_objects"


@pytest.fixture
def tiny(rendered):
  """The quickstart configuration with its argument runlocal, unlocked, for 8 fake devices."""
  config = quickstart.get_config("runlocal")
  config.data.root = str(rendered)
  return config


@pytest.fixture
def make(tmp_path):
  """Makes an experiment that prints into a recording console."""

  def experiment(config, workdir=None):
    return Experiment(config, workdir or tmp_path / "run", "python launch/main.py", Console(record=True, width=140))

  return experiment


@pytest.fixture(scope="session")
def frozen_data(tmp_path_factory):
  """A folder with a few clips, of which test1 can't be read, and tiny networks in files; not to be changed."""
  folder = tmp_path_factory.mktemp("frozen")
  frozen_clips.write_data(folder / "data")
  (folder / "data" / "videos" / "test1.webm").write_bytes(b"not a video")
  frozen_clips.write_networks(folder)
  return folder


@pytest.fixture(scope="session")
def frozen_store(frozen_data):
  """The features of all of them in float32, made by job extract: its "root", "workdir" and what it "printed"."""
  config = frozen_clips.make_config(frozen_data / "data", frozen_data)
  config.extract.update({"store": str(frozen_data / "store"), "splits": ("train", "validation", "test")})
  experiment, printed = Experiment(config, frozen_data / "extracted", "python launch/main.py"), io.StringIO()
  with contextlib.redirect_stdout(printed):
    extract.check(experiment)
    extract.run(experiment)
  return types.SimpleNamespace(
    root=frozen_data / "store", workdir=experiment.workdir, printed=" ".join(printed.getvalue().split())
  )


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
  """14 different videos of 10 to 23 frames 96 x 80, by number."""
  folder = tmp_path_factory.mktemp("clips")
  return [small_download.clip(folder / f"{number}.webm", number, 10 + number) for number in range(14)]


@pytest.fixture
def source(tmp_path, clips):
  """The official download: zipped parts and a folder of annotations."""
  members = {f"{FOLDER}/{number}.webm": clip.read_bytes() for number, clip in enumerate(clips)}
  folder = download(tmp_path / "source", tar(members), parts=3)
  small_download.annotate(folder / "labels")
  return folder


@pytest.fixture
def unpacked(tmp_path, clips):
  """The folder of .webm beside its annotations."""
  folder = tmp_path / "unpacked"
  small_download.annotate(folder)
  (folder / "videos").mkdir()
  for number, clip in enumerate(clips):
    (folder / "videos" / f"{number}.webm").write_bytes(clip.read_bytes())
  return folder


@pytest.fixture
def no_page(monkeypatch):
  """Job prepare without its page: drawing it takes longer than all the rest."""
  monkeypatch.setattr(prepare.page, "write", lambda folder, *others: folder / "index.html")
