"""Inputs and outputs in gzip and zstd: of files and pipes, torn by a kill, and as other programs
read and write them.
"""

import gzip
import json
import os
import signal
import subprocess
import time
import unittest

from job_support import BAD_INPUT, DONE, REFERENCE, USAGE, JobTest

TINY = REFERENCE / "opt-pre"  # 512 ids, 128 positions
ROWS = 60


def zstd(*arguments, data):
    return subprocess.run(["zstd", "-q", "-c", *arguments], input=data, capture_output=True,
                          check=True).stdout


PACK = {".gz": gzip.compress, ".zst": lambda data: zstd(data=data)}
UNPACK = {".gz": gzip.decompress, ".zst": lambda data: zstd("-d", data=data)}


class CodedRowsTest(JobTest):
    def setUp(self):
        super().setUp()
        self.rows = [{"custom_id": f"row {i}", "prompt": [2, 9 + i], "max_tokens": 8 + i % 50,
                      "ignore_eos": True} for i in range(ROWS)]
        self.plain = "".join(json.dumps(row) + "\n" for row in self.rows).encode()

    def job(self, path, output, *more, **options):
        return self.generate(TINY, "--input", path, "--output", output, "--gpu-batch-size", 4,
                             *more, **options)

    def expected(self):
        path = self.scratch / "rows.jsonl"
        path.write_bytes(self.plain)
        self.job(path, self.scratch / "expected.jsonl")
        return self.records(self.scratch / "expected.jsonl")

    def unpacked(self, path):
        """The records, by somebody else's program, which finds nothing wrong."""
        plain = self.scratch / "unpacked.jsonl"
        plain.write_bytes(UNPACK[path.suffix](path.read_bytes()))
        return self.records(plain)

    def test_files_and_pipes(self):
        expected = self.expected()
        for ending, pack in PACK.items():
            with self.subTest(ending=ending):
                path = self.scratch / f"rows.jsonl{ending}"
                half = self.plain.index(b"\n", len(self.plain) // 2) + 1
                path.write_bytes(pack(self.plain[:half]) + pack(self.plain[half:]))
                output = self.scratch / f"output.jsonl{ending}"
                self.job(path, output)
                self.assertEqual(self.unpacked(output), expected)
                before = output.read_bytes()
                self.job(path, output, "--resume")
                self.assertEqual(output.read_bytes(), before)

                pipe = self.scratch / f"pipe{ending}"  # as `zcat -f` would have it: by its bytes
                os.mkfifo(pipe)
                output = self.scratch / f"piped.jsonl{ending}"
                job = self.start("generate", "--model", TINY, "--quiet", "--input", pipe,
                                 "--output", output)
                with pipe.open("wb") as file:
                    file.write(path.read_bytes())
                self.assertEqual(job.end().status, DONE)
                self.assertEqual(self.unpacked(output), expected)

    def test_input_that_is_not_whole(self):
        for ending, pack in PACK.items():
            with self.subTest(ending=ending):
                whole = pack(self.plain)
                path = self.scratch / f"rows.jsonl{ending}"
                output = self.scratch / f"output.jsonl{ending}"
                path.write_bytes(whole[:-5])
                arguments = ["generate", "--model", TINY, "--input", path, "--output", output]
                self.assert_refused(self.run_job(*arguments), BAD_INPUT, path.name,
                                    "ends too early")
                middle = len(whole) // 2
                path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 8]) + whole[middle + 1:])
                self.assert_refused(self.run_job(*arguments), BAD_INPUT, path.name, "damaged")
                self.assertFalse(output.exists() and output.read_bytes())

    def test_killed_and_torn(self):
        expected = self.expected()
        path = self.scratch / "rows.jsonl"
        for ending in PACK:
            with self.subTest(ending=ending):
                output = self.scratch / f"output.jsonl{ending}"
                job = self.start("generate", "--model", TINY, "--quiet", "--input", path,
                                 "--output", output, "--gpu-batch-size", 1)
                deadline = time.monotonic() + 60
                while not (output.exists() and output.stat().st_size > 600):
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.001)
                job.process.send_signal(signal.SIGKILL)
                job.end()
                torn = output.read_bytes()
                for lost in (0, 1, 7):
                    output.write_bytes(torn[:len(torn) - lost])
                    self.job(path, output, "--resume")
                    self.assertEqual(self.unpacked(output), expected)

    def test_an_output_that_is_there(self):
        path = self.scratch / "rows.jsonl"
        path.write_bytes(self.plain)
        output = self.scratch / "output.jsonl.gz"
        self.job(path, output)
        before = output.read_bytes()
        refused = self.run_job("generate", "--model", TINY, "--input", path, "--output", output)
        self.assert_refused(refused, USAGE, "--resume")
        self.assertEqual(output.read_bytes(), before)
        middle = len(before) // 2
        output.write_bytes(before[:middle] + bytes([before[middle] ^ 8]) + before[middle + 1:])
        refused = self.run_job("generate", "--model", TINY, "--input", path, "--output", output,
                               "--resume")
        self.assert_refused(refused, BAD_INPUT, "output.jsonl.gz", "--overwrite|no record")


if __name__ == "__main__":
    unittest.main()
