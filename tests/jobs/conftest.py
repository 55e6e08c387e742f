"""The smallest configuration that runs every job, on data rendered once."""

import contextlib
import io
import types

import pytest
from rich.console import Console

from configs import quickstart
from gasmcast.jobs import extract
from gasmcast.jobs.experiment import Experiment
from tests.jobs import frozen_clips


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
