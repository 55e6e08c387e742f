"""The smallest configuration that runs every job, on data rendered once."""

import pytest
from rich.console import Console

from configs import quickstart
from gasmcast.jobs.experiment import Experiment


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
