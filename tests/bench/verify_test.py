"""scripts/verify counts what its steps say, and fails where one did, whatever it said.

python3 verify_test.py SOURCE_FOLDER [unittest's own arguments]
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1)).resolve()

SLUICE = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --report ] && printf ' "device": "%s",\\n' "$DEVICE_SAID" >"$2"; shift; done
exit ${SLUICE_STATUS:-0}
"""
ENGINE = """#!/bin/sh
case "$1" in
  --gtest_list_tests) printf 'Running main()\\nA.\\n  One\\n  Two # of what\\nB/C.\\n  One\\n'; exit ;;
  --gtest_filter=A.*) echo '[       OK ] A.One (0 ms)'; exit 0 ;;
  --gtest_filter=B/C.*) echo '[       OK ] B/C.One (0 ms)'; echo '[  FAILED  ] B/C.Two (3 ms)'; exit 1 ;;
esac
echo '[       OK ] A.One (0 ms)'
echo '[       OK ] A.Two (0 ms)'
echo '[  SKIPPED ] A.Three (0 ms)'
echo '[  SKIPPED ] there is no GPU'
[ -z "$ENGINE_FAILS" ] || echo '[  FAILED  ] A.Four (3 ms)'
exit ${ENGINE_STATUS:-0}
"""
JOB = """import unittest
class T(unittest.TestCase):
    def test_a(self): pass
    def test_b(self): pass
    def test_c(self): self.skipTest("no")
unittest.main(argv=["x"])
"""


class VerifyTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="sluice-verify-")
        self.addCleanup(scratch.cleanup)
        self.root = pathlib.Path(scratch.name)
        for folder in ("programs", "scripts", "tests/pipeline"):
            (self.root / folder).mkdir(parents=True)
        shutil.copy(SOURCE / "scripts/verify", self.root / "scripts/verify")
        for name, text in (("sluice", SLUICE), ("test_cuda_engine", ENGINE)):
            (self.root / "programs" / name).write_text(text)
            (self.root / "programs" / name).chmod(0o755)
        for name in ("device_job", "accuracy"):
            (self.root / f"tests/pipeline/{name}_test.py").write_text(JOB)

    def verify(self, *arguments, **environment):
        done = subprocess.run(
            ["bash", self.root / "scripts/verify", "--quick", "--out", self.root / "out", *arguments],
            capture_output=True, text=True, timeout=60, cwd=self.root, env=os.environ | {
                "SLUICE_PROGRAMS": str(self.root / "programs"), "DEVICE_SAID": "cuda:0 (X)"}
            | environment)
        return done.returncode, done.stdout.splitlines()

    def test_adds_up(self):
        status, said = self.verify()
        self.assertEqual((status, said[-1]), (0, "6 passed, 0 failed, 6 skipped"))
        lines = [json.loads(line) for line in
                 (self.root / "out/verify.jsonl").read_text().splitlines()]
        self.assertEqual([line["name"] for line in lines],
                         ["test_cuda_engine", "test_cuda_launches_gpu", "NCCL is there", "device_job (cuda)",
                          "accuracy (cuda)"])
        self.assertEqual({line["device"] for line in lines}, {"cuda"})
        # What is not there is skipped, not passed over.
        self.assertEqual([line["missing"] for line in lines if "missing" in line],
                         ["test_cuda_launches_gpu", "test_comm"])

    def test_a_failure_fails(self):
        # Each group by itself, in the place of all of them.
        for how in ({"ENGINE_FAILS": "1", "ENGINE_STATUS": "1"}, {"ENGINE_STATUS": "139"}):
            with self.subTest(how=how):
                status, said = self.verify(**how)
                self.assertEqual((status, said[-1]), (1, "6 passed, 1 failed, 4 skipped"))
                lines = (self.root / "out/verify.jsonl").read_text().splitlines()
                self.assertEqual([json.loads(line)["name"] for line in lines][1:3],
                                 ["test_cuda_engine A", "test_cuda_engine B/C"])
        (self.root / "tests/pipeline/accuracy_test.py").write_text(
            JOB.replace("pass", "self.fail()", 1))
        status, said = self.verify()
        self.assertEqual((status, said[-1]), (1, "5 passed, 1 failed, 6 skipped"))

    def test_a_device_that_cannot_be_used_is_a_failure(self):
        status, said = self.verify("--device", "cuda", SLUICE_STATUS="2")
        self.assertEqual((status, said[-1]), (1, "0 passed, 1 failed, 0 skipped"))

    def test_what_outlasts_its_time_keeps_what_it_had(self):
        (self.root / "tests/pipeline/accuracy_test.py").write_text(
            JOB.replace('argv=["x"]', "verbosity=2, argv=['x']").replace(
                'self.skipTest("no")', "import os, signal; os.kill(os.getppid(), signal.SIGALRM); "
                "signal.pause()"))
        status, said = self.verify()
        self.assertEqual((status, said[-1]), (1, "6 passed, 1 failed, 5 skipped"))
        self.assertIn("out of time", said[-3])

    def test_no_time_left_is_a_failure(self):
        status, said = self.verify("--minutes", "0")
        self.assertEqual((status, said[-1]), (1, "0 passed, 3 failed, 2 skipped"))

    def test_sanitizers_run_the_engine_again_and_what_they_find_fails(self):
        tools = self.root / "tools"
        tools.mkdir()
        (tools / "compute-sanitizer").write_text(
            '#!/bin/sh\necho "$@" >>"$0.said"\nfor last; do :; done\n"$last"\n'
            '[ "$2" != racecheck ] || exit 9\n')
        (tools / "compute-sanitizer").chmod(0o755)
        status, said = self.verify("--sanitize", PATH=f"{tools}:{os.environ['PATH']}")
        self.assertEqual((status, said[-1]), (1, "10 passed, 1 failed, 10 skipped"))
        told = (tools / "compute-sanitizer.said").read_text().splitlines()
        self.assertEqual([line.split()[1] for line in told], ["memcheck", "racecheck"])
        for line in told:
            self.assertIn("--error-exitcode 9", line)

    def test_wrong_use(self):
        self.assertEqual(self.verify("--fast")[0], 2)
        self.assertEqual(self.verify("--minutes", "soon")[0], 2)


if __name__ == "__main__":
    unittest.main()
