#!/bin/bash
# Workers of one job as a Slurm array: every array task starts the same command, and they share the work by the folder.
#
#   sbatch --array=0-15 launch/slurm_workers.sh --config configs/ssv2_gasmcast.py --workdir /shared/runs/ssv2 --job extract
#
# Run it in the root of the checkout. The checkout, its environment, the data and the workdir have to be on a disk that
# all nodes see under the same path. What stands before the script's name is sbatch's and replaces the lines below
# (--partition, --gres=gpu:1, --time ...); what stands behind it is launch/main.py's.
#
# More workers: run the same command again while the first array is still at it. Fewer: scancel JOB_INDEX. A task that
# is cancelled, preempted or out of time costs the shard it had in hand; the others take it over within a minute.
# PYTHON names another interpreter than that of .venv.
#
#SBATCH --job-name=gasmcast
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=4G
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
set -eu

cd "${SLURM_SUBMIT_DIR:-.}" # Slurm runs a copy of this file, which lies elsewhere
python=${PYTHON:-.venv/bin/python}

if [ ! -f launch/main.py ]; then
  echo "error: $PWD is not the root of a checkout of gasmcast; run sbatch there." >&2
  exit 2
fi
if [ "$#" -eq 0 ]; then
  echo "error: nothing to do; usage: sbatch --array=0-15 launch/slurm_workers.sh --config FILE --workdir FOLDER --job JOB" >&2
  exit 2
fi
if ! command -v "$python" >/dev/null; then
  echo "error: $python is not there on $(hostname); make the environment on a shared disk, or name it by PYTHON." >&2
  exit 2
fi

echo "Worker ${SLURM_ARRAY_TASK_ID:-0} of array ${SLURM_ARRAY_JOB_ID:-none} on $(hostname)"
exec "$python" launch/main.py "$@" # exec: Slurm's signals reach the worker itself
