#!/bin/bash
# Four nodes with one GPU each. From the folder that holds cluster-configs/, for example a checkout:
#   sbatch cluster-configs/slurm-4x1gpu.sh MODEL INPUT OUTPUT [FLAGS OF sluice generate]
# Without flags sluice chooses by itself; for OPT-66b on such a machine add --config cluster-configs/cluster-4x1gpu.yaml
# The job takes whole nodes, so it names no number of cores or bytes that a node may not have. What to
# adapt (flags of sbatch count more than the lines below; `sinfo -o "%P %D %c %m %G %l"` shows what is there):
#   --partition, --account        where your site wants them
#   --nodes=N --ntasks=N          for another number of nodes
#   --time                        the partition's own limit counts otherwise; at a limit the job queues itself again
#SBATCH --job-name=sluice
#SBATCH --nodes=4
#SBATCH --ntasks=4
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
if [ "$#" -lt 3 ]; then
  echo "usage: sbatch $0 MODEL INPUT OUTPUT [FLAGS OF sluice generate]" >&2
  exit 2
fi
source "$SLURM_SUBMIT_DIR/cluster-configs/slurm-job.sh"
run_job "$@"
