# Starts the ranks of a Slurm job, starts them again where that helps, and queues the job again at its
# time limit. The sample scripts beside this file read it and call run_job. A user may set, all optional:
#   SLUICE           the program; without it ./build/sluice, or the sluice in PATH
#   SLUICE_START     how ranks are started: srun (the default) or mpirun
#   SLUICE_RESTARTS  how many starts in a row may end before they answered anything (5)
#   SLUICE_SHARDS    of a job array, into how many parts the rows go; without it into as many as it has tasks

say() { echo "slurm-job: $*" >&2; }

# The program to run.
find_sluice() {
  if [ -n "${SLUICE:-}" ]; then
    echo "$SLUICE"
  elif [ -x build/sluice ]; then
    echo "$PWD/build/sluice"
  elif ! command -v sluice; then
    say "there is no build/sluice here and no sluice in PATH; build it (scripts/build program), or name it (SLUICE=FILE sbatch ...)"
    return 2
  fi
}

# Cores of each task: its share of the smallest node. Where nothing is said, srun gives a task one core.
cores_of_a_task() {
  local cores
  cores=$(tr , '\n' <<<"$SLURM_JOB_CPUS_PER_NODE" | sed 's/(.*//' | sort -n | head -n 1)
  cores=$((cores * SLURM_JOB_NUM_NODES / SLURM_NTASKS))
  echo $((cores > 0 ? cores : 1))
}

size_of() { stat --format=%s "$1" 2>/dev/null || echo 0; }
# How far the job is: bytes of answers, and of the journal, which has the tokens of answers under way.
progress() { echo "$(size_of "$output") $(size_of "$output.journal")"; }
# Whether the job is further than progress() said then.
is_further_than() {
  [ "$(size_of "$output")" -gt "${1% *}" ] || [ "$(size_of "$output.journal")" -gt "${1#* }" ]
}

# Runs a command to its end; its exit status is then in `status`.
run_ranks() {
  "$@" &
  ranks=$!
  [ -z "$limit_near" ] || limit_is_near  # the signal came just before
  signalled=1
  while [ -n "$signalled" ]; do  # `wait` also returns when a signal has come
    signalled=""
    wait "$ranks" && status=0 || status=$?
  done
  ranks=""
}

# Slurm sends SIGUSR1 to this shell before the time limit (#SBATCH --signal=B:USR1@...).
limit_is_near() {
  signalled=1
  limit_near=1
  [ -z "$ranks" ] || kill -USR1 "$ranks" 2>/dev/null || true
}

# Puts a job that was asked to stop, at its time limit or for a job that goes before it, back into the
# queue: but not for ever. (scancel ends this shell, so that a job which was cancelled stays so.)
queue_again() {
  if ! is_further_than "$at_first"; then
    say "the job was stopped before it answered anything; give it more time (sbatch --time=...)"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    say "the job was stopped and is queued again, to go on where it was"
  else
    say "the job was stopped and cannot be queued again; send the same sbatch line to go on"
  fi
}

# run_job MODEL INPUT OUTPUT [FLAGS OF sluice generate]
run_job() {
  cd "$SLURM_SUBMIT_DIR"
  # A task of a job array answers its part of the rows, into a file of its own.
  local shard=()
  if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    [[ "$3" == *"{shard}"* ]] || { say "the OUTPUT of a job array needs {shard}, such as answers.{shard}.jsonl"; return 2; }
    shard=(--shard "${SLUICE_SHARDS:+$SLURM_ARRAY_TASK_ID/$SLUICE_SHARDS}")
    [ -n "${shard[1]}" ] || shard[1]=slurm
  fi
  output=${3//"{shard}"/${SLURM_ARRAY_TASK_ID:-}} lost=0 status=0 limit_near="" signalled="" ranks=""
  # The report says that a run came to its end: the user's, where there is one among the flags.
  local report=$output.report.json own_report=(--report "$output.report.json") word before_word=""
  for word in "${@:4}"; do
    [ "$before_word" != --report ] || report=$word own_report=()
    before_word=$word
  done
  report=${report//"{shard}"/${SLURM_ARRAY_TASK_ID:-}}
  local sluice most="${SLUICE_RESTARTS:-5}" at_first before start
  sluice=$(find_sluice)
  # --mpi=pmix: without it every task would be a job of its own. -K1: when a rank dies, the others are
  # ended; without it they could wait for ever.
  start=(srun --mpi=pmix -K1 --cpus-per-task="$(cores_of_a_task)")
  [ "${SLUICE_START:-srun}" = srun ] || start=(mpirun --bind-to none -n "$SLURM_NTASKS")
  start+=("$sluice" generate --model "$1" --input "$2" --output "$3" --resume
    "${own_report[@]}" "${shard[@]}" "${@:4}")
  # With its default (mixed), the PMIx plugin of Slurm 22.05 now and then lets ranks out of MPI_Init before
  # all have come so far, and their first message kills one that has not (docs/cluster.md).
  export SLURM_PMIX_FENCE="${SLURM_PMIX_FENCE:-ring}"
  say "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, run $((${SLURM_RESTART_COUNT:-0} + 1)): ${start[*]}"
  at_first=$(progress)
  trap limit_is_near USR1
  while true; do
    before=$(progress)
    rm -f "$report"
    run_ranks "${start[@]}"
    # srun also returns 0 where no task could be launched, as in a job that was queued again.
    [ "$status" -ne 0 ] || [ -e "$report" ] || status=1
    case $status in
      0 | 2 | 3 | 4 | 6) return "$status" ;;  # done, or what no other start mends
    esac
    lost=$((lost + 1))
    ! is_further_than "$before" || lost=0
    if [ "$status" -eq 75 ] || [ -n "$limit_near" ]; then
      queue_again
      return 75
    elif [ "$lost" -gt "$most" ]; then
      say "the ranks ended with status $status before they answered anything, $lost times in a row; giving up"
      return "$status"
    elif [ "$lost" -gt 0 ]; then
      say "the ranks ended with status $status before they answered anything; starting again ($lost of at most $most)"
    else
      say "the ranks ended with status $status; starting again, to go on where they were"
    fi
    sleep $((lost * lost))
    [ -z "$limit_near" ] || { queue_again; return 75; }
  done
}
