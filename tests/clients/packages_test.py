"""clients/python as pip installs it, and with pandas' tables and numpy's arrays. Needs these packages; what is
missing is skipped.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

try:
    import numpy
    import pandas
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "pipeline"))

from job_support import DEMO_MODEL, DEVICE, ENVIRONMENT, MAX_SECONDS, SLUICE, SOURCE, JobTest  # noqa: E402

sys.path.insert(0, str(SOURCE / "clients/python"))

import sluice  # noqa: E402

QUESTIONS = ["Question: What is 7 plus 8?\nAnswer:", "Question: What is 2 plus 1?\nAnswer:"]


class ClientPackagesTest(JobTest):
    def test_pip_installs_it(self):
        source, target = self.scratch / "source", self.scratch / "target"
        shutil.copytree(SOURCE / "clients/python", source)  # pip builds in the folder itself
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", target, source], check=True, timeout=MAX_SECONDS)
        program = f"""
import sluice
assert sluice.__file__.startswith({str(target)!r}), sluice.__file__
with sluice.Model({str(DEMO_MODEL)!r}, policy={{"device": {DEVICE!r}}}) as model:
    print(model.generate({QUESTIONS[0]!r}, stop="\\n"))
"""
        ended = subprocess.run([sys.executable, "-c", program], cwd=self.scratch, capture_output=True, text=True,
                               env=ENVIRONMENT | {"PYTHONPATH": str(target), "SLUICE": SLUICE},
                               timeout=MAX_SECONDS, check=False)
        self.assertEqual((ended.returncode, ended.stdout), (0, " 15\n"), ended)
        self.assertTrue((target / "sluice/py.typed").exists())

    def test_tables_and_arrays(self):
        os.environ.update(ENVIRONMENT)
        with sluice.Model(DEMO_MODEL, program=SLUICE, policy={"device": DEVICE}) as model:
            frame = pandas.DataFrame({"question": QUESTIONS, "key": [3, 4]}, index=["x", "y"])
            made = model.generate(frame, column="question", output="answer", stop="\n")
            self.assertEqual(made["answer"].tolist(), [" 15", " 3"])
            self.assertEqual(list(made.columns), ["question", "key", "answer"])
            self.assertEqual(list(frame.columns), ["question", "key"])
            series = model.generate(frame["question"], stop="\n")
            self.assertEqual(series.to_dict(), {"x": " 15", "y": " 3"})
            self.assertEqual(len(model.generate(frame[:0], column="question")), 0)
            details = model.generate(frame["question"], stop="\n", details=True)
            self.assertEqual([one.text for one in details], [" 15", " 3"])
            with self.assertRaises(ValueError):
                model.generate(frame, column="question", num_return_sequences=2)
            with self.assertRaises(TypeError):
                model.generate(frame, column="key")
            ids = numpy.array([model.tokenize(QUESTIONS[0])] * 2)
            longer = numpy.concatenate([numpy.ones((2, 3), int), ids], axis=1)
            mask = numpy.array([[0] * 3 + [1] * ids.shape[1]] * 2)
            made = model.generate(longer, attention_mask=mask, max_new_tokens=3)
            self.assertEqual([row[:ids.shape[1]] for row in made], ids.tolist())
            self.assertEqual([model.detokenize(row[ids.shape[1]:])[:3] for row in made], [" 15"] * 2)


if __name__ == "__main__":
    unittest.main()
