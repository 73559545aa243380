"""Jobs of the program on emulated GPUs whose hidden states go from device to device, over an emulated
NCCL (tests/support/nccl_emulation.h): the same answers as over MPI, which transport runs is said,
and a rank or a message that is lost ends the job.
"""

import os
import pathlib
import shutil
import signal
import time
import unittest

from job_support import DONE, FAILURE, REFERENCE, SLUICE, USAGE, JobTest, is_running, percent

MODEL = REFERENCE / "opt-pre"
ON_DEVICE = percent(100, 0, 100, 0, 100, 0)
EVERYWHERE = percent(30, 40, 50, 20, 50, 50)
LATE = {"SLUICE_EMULATED_LATE": "1", "SLUICE_EMULATED_SEED": "1"}
NCCL_INVALID_USAGE = 5
NCCL_INTERNAL_ERROR = 3
MAX_SECONDS_TO_END = 5.0


def gpus(count, **more):
    return {"SLUICE_EMULATED_GPUS": str(count)} | more


class NcclJobTest(JobTest):
    def rows(self, count, tokens):
        rows = [{"custom_id": f"row-{i}", "prompt": [2 + (i * 37 + k * k * 11) % 400
                                                     for k in range(1 + i * 5 % 23)],
                 "max_tokens": tokens, "ignore_eos": True} for i in range(count)]
        return self.write_rows("rows.jsonl", rows)

    def arguments(self, transport, *more, rows=11, tokens=6):
        output = self.scratch / f"{transport}.jsonl"
        return output, ["generate", "--model", MODEL, "--input", self.rows(rows, tokens), "--output",
                        output, "--overwrite", "--device", "cuda", "--gpu-batch-size", 2,
                        "--num-gpu-batches", 2, "--max-batch-tokens", 16, "--transport", transport,
                        *more]

    def test_the_same_answers_as_over_mpi(self):
        for ranks, placement, environment in ((2, ON_DEVICE, {}), (3, ON_DEVICE, LATE),
                                              (3, EVERYWHERE, LATE)):
            with self.subTest(ranks=ranks, placement=placement):
                answers, sent = {}, {}
                for transport in ("mpi", "nccl"):
                    report = self.scratch / "report.json"
                    output, job = self.arguments(transport, *placement, "--report", report,
                                                 "--probe", "never")
                    ended = self.run_job(*job, ranks=ranks, environment=gpus(ranks) | environment)
                    self.assertEqual(ended.status, DONE, ended)
                    answers[transport] = self.records(output)
                    stages = self.read_json(report)["stages"]
                    self.assertEqual([stage["transport"] for stage in stages], [transport] * ranks)
                    sent[transport] = [stage["run"]["activities"][activity]["bytes"]
                                       for stage in stages for activity in ("send", "receive")]
                    for stage in stages:
                        for tier, told in stage["tiers"].items():
                            self.assertEqual(told["high_water"], told["planned"], tier)
                self.assertEqual(len(answers["nccl"]), 11)
                self.assertEqual(answers["nccl"], answers["mpi"])
                self.assertEqual(sent["nccl"], sent["mpi"])

    def test_which_one_runs_is_said(self):
        for transport, count, said in (
                ("auto", 2, "nccl"),
                ("auto", 1, "host-staged MPI (ranks 0 and 1 share GPU "),
                ("nccl", 1, "nccl"),
                ("mpi", 2, "host-staged MPI (asked for)")):
            with self.subTest(transport=transport, gpus=count):
                _, job = self.arguments(transport, rows=2, tokens=2)
                ended = self.run_job(*job, ranks=2, environment=gpus(count))
                self.assertEqual(ended.status, DONE, ended)
                lines = [line for line in (ended.stdout + ended.stderr).splitlines()
                         if line.startswith("transport")]
                self.assertEqual(len(lines), 1, ended)
                self.assertTrue(lines[0].startswith("transport: " + said), lines)

    def test_instances_of_a_gpu_are_not_shared(self):
        _, job = self.arguments("mpi", rows=2, tokens=2)
        for instances in (False, True):
            with self.subTest(instances=instances):
                ended = self.run_job(*job, ranks=2, environment=gpus(
                    2 if instances else 1, SLUICE_EMULATED_INSTANCES=str(int(instances))))
                self.assertEqual(ended.status, DONE, ended)
                said = "ranks 0 and 1 share GPU 0000:01:00.0" in ended.stdout + ended.stderr
                self.assertEqual(said, not instances, ended)

    def test_by_name_it_is_refused_where_it_cannot_be(self):
        _, job = self.arguments("nccl")
        job[job.index("cuda")] = "cpu"
        self.assert_refused(self.run_job(*job, ranks=2), USAGE, "nccl cannot be used",
                            "rank 0 computes on the CPU")

    def test_without_its_plugin_it_is_refused_by_name(self):
        program = pathlib.Path(SLUICE)
        for name in (program.name, "libsluice_cuda.so"):
            shutil.copy(program.parent / name, self.scratch / name)
        _, job = self.arguments("nccl")
        ended = self.run_job(*job, ranks=2, environment=gpus(2), program=self.scratch / program.name)
        self.assert_refused(ended, USAGE, "rank 0: NCCL unavailable: libsluice_nccl.so: cannot open")
        _, job = self.arguments("auto", rows=2, tokens=2)
        ended = self.run_job(*job, ranks=2, environment=gpus(2), program=self.scratch / program.name)
        self.assertEqual(ended.status, DONE, ended)
        self.assertIn("transport: host-staged MPI (rank 0: NCCL unavailable: ",
                      ended.stdout + ended.stderr)

    def test_a_killed_rank_ends_the_job(self):
        for victim in range(3):
            with self.subTest(victim=victim):
                output, job = self.arguments("nccl", "--quiet", rows=60, tokens=40)
                self.remove_output(output)
                running = self.start(*job, ranks=3, environment=gpus(3))
                running.wait_for_lines(output, 1)
                struck = time.monotonic()
                os.kill(running.ranks[victim], signal.SIGKILL)
                ended = running.end()
                while any(map(is_running, running.ranks.values())):
                    time.sleep(0.01)
                self.assertLess(time.monotonic() - struck, MAX_SECONDS_TO_END, ended)
                self.assertEqual(ended.status, 128 + signal.SIGKILL, ended)
                self.assertEqual(len(ended.said()), 1, ended)
                self.assertRegex(ended.said()[0], rf"^sluice: rank {victim} \(host \S+, pid "
                                                  rf"{running.ranks[victim]}\) died; its last step")

    def test_what_fails_at_work_ends_the_job(self):
        _, job = self.arguments("nccl", "--quiet", rows=20, tokens=20)
        ended = self.run_job(*job, ranks=3, environment=gpus(
            3, SLUICE_EMULATED_NCCL_BREAKS=f"9:{NCCL_INTERNAL_ERROR}"))
        self.assertEqual(ended.status, FAILURE, ended)
        self.assertEqual(len(ended.said()), 1, ended)
        self.assertRegex(ended.said()[0], r"^sluice: rank \d: NCCL, with rank \d: \w+( \w+)?: "
                                          r"ncclInternalError")

    def test_what_fails_at_the_meeting_ends_the_job(self):
        _, job = self.arguments("nccl", "--quiet")
        ended = self.run_job(*job, ranks=2, environment=gpus(
            2, SLUICE_EMULATED_NCCL_FAILS=f"ncclCommInitRankConfig:{NCCL_INVALID_USAGE}"))
        self.assertEqual(ended.status, FAILURE, ended)
        self.assertRegex(ended.said()[0], "ncclCommInitRankConfig: ncclInvalidUsage")


if __name__ == "__main__":
    unittest.main()
