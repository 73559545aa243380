"""Under a launcher every rank meets the same problem: the first says it, the others end silently.
"""

import resource
import subprocess
import unittest

from job_support import DEMO_MODEL, ENVIRONMENT, NO_SPACE, SLUICE, USAGE, JobTest

MEMORY = 300 << 20  # bytes of address space: plenty to start, not for a line of tens of megabytes


class OneVoiceTest(JobTest):
    def said_by(self, rank, *arguments, memory=None, text=b""):
        def limit():
            if memory:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

        ended = subprocess.run([SLUICE, *map(str, arguments)], input=text, cwd=self.scratch,
                               env=ENVIRONMENT | {"OMPI_COMM_WORLD_RANK": str(rank)},
                               preexec_fn=limit, capture_output=True, timeout=60, check=False)
        return ended.returncode, len(ended.stderr.splitlines())

    def test_a_wrong_flag(self):
        for rank, lines in ((0, 1), (1, 0)):
            self.assertEqual(self.said_by(rank, "generate", "--no-such-flag"), (USAGE, lines))

    def test_memory_that_is_too_small(self):
        for rank, lines in ((0, 1), (1, 0)):
            self.assertEqual(self.said_by(rank, "tokenize", "--model", DEMO_MODEL, memory=MEMORY,
                                          text=b"a" * (40 << 20)), (NO_SPACE, lines))


if __name__ == "__main__":
    unittest.main()
