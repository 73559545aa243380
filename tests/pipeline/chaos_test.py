"""A few seeded strikes of scripts/chaos at small jobs; the whole is run by hand."""

import os
import pathlib
import subprocess
import sys
import unittest

PROGRAM = os.path.abspath(sys.argv.pop(1))
SOURCE = pathlib.Path(sys.argv.pop(1)).resolve()


class ChaosTest(unittest.TestCase):
    def strike(self, *arguments):
        command = [sys.executable, SOURCE / "scripts/chaos", "--program", PROGRAM, *arguments]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        return ended.stdout

    def test_struck_jobs_end_with_the_same_answers(self):
        told = self.strike("--kills", 10, "--seed", 13, "--workers", 2)
        self.assertIn("chaos: 10 of 10 equal", told)


if __name__ == "__main__":
    unittest.main()
