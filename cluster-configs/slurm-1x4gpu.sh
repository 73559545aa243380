#!/bin/bash
# One node with four GPUs. Usage, from the folder that holds cluster-configs/:
#   sbatch cluster-configs/slurm-1x4gpu.sh MODEL INPUT OUTPUT
# A job that was requeued or sent again goes on where it stopped (--resume).
#SBATCH --job-name=sluice
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --mem=240G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
if [ "$#" -ne 3 ]; then
  echo "usage: sbatch $0 MODEL INPUT OUTPUT" >&2
  exit 2
fi
cd "$SLURM_SUBMIT_DIR"

# --mpi=pmix: without it every task would be a job of its own. -K1: when a rank dies, end the others,
# which otherwise would wait for ever.
srun --mpi=pmix -K1 sluice generate --config cluster-configs/workstation-4gpu.yaml \
  --model "$1" --input "$2" --output "$3" --resume --report "$3.report.json"
