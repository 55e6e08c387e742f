"""Something-Something-V2 made ready: unpacked, checked against the published counts, probed, indexed, reported on.

  python launch/main.py --config configs/ssv2_prepare.py --workdir runs/ssv2_prepared \\
    --config.prepare.source=/data/ssv2_download

The source is the download as it comes: 20bn-something-something-v2-00.zip, -01.zip, ... (or those unzipped, or the
folder 20bn-something-something-v2 with the .webm files), and the annotations, zipped or in labels/: labels.json,
train.json, validation.json, test.json, and test-answers.csv if there. It is never written to; archives are unpacked
into <workdir>/videos or --config.prepare.videos.

Expected: 168,913 / 24,777 / 27,157 examples, 174 classes. Exit code 0, or 3 if a check with the severity "error"
failed: everything is written nevertheless. Train on the result by --config.data.dataset=index
--config.data.root=runs/ssv2_prepared/index. Cost: 20 GB are unpacked, and 220,847 videos of about 4 s decoded once.
Not run at full size so far: the videos were not at hand.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: none is known."""
  common.options(arg)
  return common.prepare("something_something")
