#!/usr/bin/env python3
"""Style as a test: folder arrows, third-party headers, sizes, layout, leftovers, README's promises.

tidy_test.py SOURCE_DIR SLUICE_PROGRAM
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path()
PROGRAM = ""

FOLDERS = ["kernels/device", "kernels", "offload", "comm", "grammar", "stage", "launcher"]
# An arrow means "may include"; what is not here is refused. comm, grammar and offload do not know each other.
ARROWS = {
    "kernels/device": {"kernels/device"},
    "kernels": {"kernels", "kernels/device"},
    "offload": {"offload", "kernels", "kernels/device"},
    "comm": {"comm", "kernels", "kernels/device"},
    "grammar": {"grammar", "kernels/device"},
    "stage": {"stage", "comm", "grammar", "offload", "kernels", "kernels/device"},
    "launcher": {"launcher", "stage", "comm", "grammar", "offload", "kernels", "kernels/device"},
}
# Third-party headers, and the only files that see them.
THIRD_PARTY = {
    r"mpi\.h": r"comm/mpi_\w+\.(cc|h)",
    r"nccl\.h": r"comm/nccl/\w+\.(cc|h)",
    r"cu(da|blas)\w*\.h": r"(kernels/cuda|comm/nccl)/\w+\.(cc|h|cu|cuh)",
    r"boost/beast.*": r"launcher/serve/http_connection\.cc|launcher/bench/http_client\.cc",
    r"boost/.*": r"offload/disk/disk_engine\.cc|launcher/(serve|bench)/http_\w+\.cc",
    r"histedit\.h": r"launcher/serve/terminal\.cc",
    r"prometheus/.*": r"launcher/serve/serve_metrics\.cc",
    r"hwy/.*": r"kernels/(cpu|device)/[\w-]+\.(cc|h)",
    r"yaml-cpp/.*": r"launcher/config/config_yaml\.cc",
    r"CLI/.*": r"launcher/config/cli\w*\.cc",
    r"oniguruma\.h": r"launcher/tokenizer/regex\.cc",
    r"utf8proc\.h": r"launcher/tokenizer/unicode\.cc",
    r"sentencepiece_\w+\.h": r"launcher/tokenizer/sentence_piece_model\.cc",
    r"nlohmann/.*": r"launcher/json/json\.cc|offload/checkpoint/json_walk\.cc",
    r"coin/.*": r"launcher/planner/linear_program\.cc",
    r"xxhash\.h": r"offload/(disk|weights)/\w+\.cc|launcher/jobs/(row_ids|zstd_coding)\.cc|stage/prefix_tree\.cc|"
               r"tests/.*",
    r"zlib\.h": r"launcher/jobs/gzip_coding\.cc",
    r"zstd\.h": r"launcher/jobs/zstd_coding\.cc",
    r"fmt/.*": r"(launcher|stage|comm|grammar|offload|kernels)/.*\.cc",
}
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 70
MAX_COLUMNS = 100
CPUS = len(os.sched_getaffinity(0))


def sources(*patterns):
    for folder in ["kernels", "offload", "comm", "grammar", "stage", "launcher", "tests"]:
        for pattern in patterns:
            yield from sorted((ROOT / folder).rglob(pattern))


def folder_of(path):
    relative = path.relative_to(ROOT).as_posix()
    if relative.startswith("kernels/device/"):
        return "kernels/device"
    return relative.split("/")[0]


def include_folder(included):
    return "kernels/device" if included.startswith("kernels/device/") else included.split("/")[0]


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if match:
            yield number, match.group(1), match.group(2)


def functions(text):
    """(first line, lines) of each outermost brace block that follows a ')': good enough for our style."""
    depth, start, starts = 0, None, []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        code = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'|//.*', "", line)
        opens_function = re.search(r"\)\s*(const|noexcept|override|final|\s)*(->[^{]*)?\{\s*$", code)
        is_scope = re.match(r"\s*(namespace|class|struct|enum|extern)\b", code)
        if opens_function and not is_scope and start is None:
            start = (number, depth)
        depth += code.count("{") - code.count("}")
        if start is not None and depth <= start[1] and "}" in code:
            starts.append((start[0], number - start[0] + 1))
            start = None
    return starts


class Tidy(unittest.TestCase):
    def report(self, problems):
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_folder_arrows(self):
        problems = []
        for path in sources("*.h", "*.cc", "*.cu", "*.cuh"):
            folder = folder_of(path)
            if folder == "tests":
                continue
            for number, quote, included in includes(path):
                if quote != '"':
                    continue
                if include_folder(included) not in ARROWS[folder]:
                    problems.append(f"{path}:{number}: {folder} may not include {included}")
        self.report(problems)

    def test_folders_of_the_launcher_make_no_circle(self):
        below = {}
        for path in (ROOT / "launcher").rglob("*.[hc]*"):
            folder = path.relative_to(ROOT / "launcher").parts[0]
            if path.suffix not in (".h", ".cc") or folder == path.name:  # main.cc is above all
                continue
            for _, _, included in includes(path):
                parts = included.split("/")
                if parts[0] == "launcher" and len(parts) > 2 and parts[1] != folder:
                    below.setdefault(folder, {}).setdefault(parts[1], f"{path} includes {included}")
        self.assertIn("planner", below)
        while True:  # what includes nothing that is left is in no circle
            free = [folder for folder in below if not below[folder].keys() & below.keys()]
            if not free:
                break
            for folder in free:
                del below[folder]
        self.report(sorted(why for folder in below.values() for to, why in folder.items() if to in below))

    def test_third_party_headers_stay_in_their_rooms(self):
        problems = []
        for path in sources("*.h", "*.cc", "*.cu", "*.cuh"):
            relative = path.relative_to(ROOT).as_posix()
            if relative.startswith("tests/"):
                continue
            for number, quote, included in includes(path):
                if quote != "<":
                    continue
                for header, allowed in THIRD_PARTY.items():
                    if re.fullmatch(header, included):
                        if not re.fullmatch(allowed, relative):
                            problems.append(f"{path}:{number}: <{included}> is seen only by {allowed}")
                        break
        self.report(problems)

    def test_headers_have_no_third_party_types(self):
        problems = [
            f"{path}:{number}: <{included}> in a header"
            for path in sources("*.h")
            if folder_of(path) not in ("tests",)
            for number, quote, included in includes(path)
            if quote == "<" and re.match(r"(boost|mpi\.h|CLI|coin|yaml-cpp|oniguruma|utf8proc|sentencepiece)", included)
        ]
        self.report(problems)

    def test_sizes(self):
        problems = []
        for path in sources("*.h", "*.cc", "*.cu", "*.cuh", "*.py"):
            text = path.read_text()
            lines = text.splitlines()
            if len(lines) > MAX_FILE_LINES:
                problems.append(f"{path}: {len(lines)} lines, at most {MAX_FILE_LINES}")
            for number, line in enumerate(lines, 1):
                if len(line) > MAX_COLUMNS and "http" not in line and path.suffix != ".py":
                    problems.append(f"{path}:{number}: {len(line)} columns, at most {MAX_COLUMNS}")
            if path.suffix in (".cc", ".cu", ".cuh") and 'R"' not in text:  # raw strings have braces of their own
                for number, length in functions(text):
                    if length > MAX_FUNCTION_LINES:
                        problems.append(f"{path}:{number}: a function of {length} lines, "
                                        f"at most {MAX_FUNCTION_LINES}")
        self.report(problems)

    def test_layout_is_that_of_clang_format(self):
        program = shutil.which("clang-format-14")
        if program is None:
            self.skipTest("no clang-format-14; scripts/setup installs it")
        files = [str(path) for path in sources("*.h", "*.cc", "*.cu", "*.cuh")]
        shares = [files[first::CPUS] for first in range(CPUS)]
        checks = [subprocess.Popen([program, "--dry-run", "-Werror", *share], cwd=ROOT,
                                   stderr=subprocess.PIPE, text=True) for share in shares if share]
        said = "".join(check.communicate()[1] for check in checks)
        self.report([line for line in said.splitlines() if ": error: " in line])
        self.assertEqual([check.returncode for check in checks], [0] * len(checks), said)

    def test_every_header_is_guarded_and_includes_its_own_first(self):
        problems = []
        for path in sources("*.h"):
            if "-inl.h" not in path.name and "#pragma once" not in path.read_text():
                problems.append(f"{path}: no #pragma once")
        for path in sources("*.cc"):
            own = path.with_suffix(".h")
            if folder_of(path) == "tests" or not own.exists() or "hwy" in path.read_text():
                continue
            first = next((name for _, _, name in includes(path)), "")
            if first != own.relative_to(ROOT).as_posix():
                problems.append(f"{path}: includes {first} before its own header")
        self.report(problems)

    def test_every_source_is_listed(self):
        listed, globs = set(), []
        for path in [*ROOT.glob("*/**/CMakeLists.txt"), *ROOT.glob("tests/**/*.cmake")]:
            if path.relative_to(ROOT).parts[0].startswith("build"):
                continue
            text = path.read_text()
            globs += [f"{path}: file(GLOB: list the files" for _ in re.findall(r"file\(GLOB", text)]
            variables = {"CMAKE_SOURCE_DIR": str(ROOT), "CMAKE_CURRENT_SOURCE_DIR": str(path.parent)}
            variables |= dict(re.findall(r"set\((emulation|engine) (\S+)\)", text))
            # A name made in a loop stands for each word of the loop.
            words = re.findall(r"[^\s()\"]+\.(?:cc|cu|py)\b", text)
            for name, values in re.findall(r"foreach\((\w+) ([^)]*)\)", text):
                words += [word.replace(f"${{{name}}}", value) for word in words
                          for value in values.split() if f"${{{name}}}" in word]
            for word in words:
                for _ in variables:
                    word = re.sub(r"\$\{(\w+)\}", lambda m: variables.get(m[1], m[0]), word)
                listed.add((path.parent / word).resolve())
        problems = [f"{path}: no CMakeLists.txt lists it" for path in sources("*.cc", "*.cu", "*_test.py")
                    if path.resolve() not in listed]
        self.report(globs + problems)

    def test_no_leftovers(self):
        words = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
        machine = re.compile(r"/wor" + r"k/|/far" + r"m/|/tmp/w" + r"t/|py" + r"pi\.|\bissu" + r"e #?[0-9]")
        problems = []
        if shutil.which("git") is None:
            self.skipTest("git, which lists the files, is not here")
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
        if listed.returncode != 0:
            self.skipTest("this folder is no checkout, so nothing lists its files")
        names = listed.stdout.split("\n")
        for name in filter(None, names):
            path = ROOT / name
            if path.suffix not in (".h", ".cc", ".py", ".md", ".yaml", ".txt", ".sh", ""):
                continue
            try:
                text = path.read_text()
            except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if words.search(line) or machine.search(line):
                    problems.append(f"{name}:{number}: {line.strip()}")
        self.report(problems)

    def test_every_folder_says_what_it_is(self):
        problems = [f"{folder}/README.md is missing" for folder in
                    FOLDERS + ["tests", "scripts", "cluster-configs", "tests/bench"]
                    if not (ROOT / folder / "README.md").exists()]
        for path in ROOT.glob("*/README.md"):
            if len(path.read_text().splitlines()) > 60:
                problems.append(f"{path}: longer than 60 lines")
        self.report(problems)

    def test_commands_of_the_readme_exist(self):
        problems = []
        helps = {}
        for document in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]:
            fences = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.S | re.M)
            for block in [text for language, text in fences if language in ("", "sh", "bash")]:
                for line in block.replace("\\\n", " ").splitlines():
                    for script in re.findall(r"(?:^|\s)((?:\./)?scripts/[\w/-]+(?:\.\w+)?)", line):
                        if not (ROOT / script).exists():
                            problems.append(f"{document}: {script} does not exist")
                    match = re.search(r"\bsluice (generate|plan|simulate|inspect|calibrate|bench|tokenize|serve)\b(.*)", line)
                    if not match:
                        continue
                    command = match.group(1)
                    if command not in helps:
                        helps[command] = subprocess.run([PROGRAM, command, "--help"],
                                                        capture_output=True, text=True).stdout
                    for flag in re.findall(r"(--[a-z][\w-]*)", match.group(2)):
                        if not re.search(re.escape(flag) + r"\b", helps[command]):
                            problems.append(f"{document}: sluice {command} has no {flag}")
        self.report(problems)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop()
    ROOT = pathlib.Path(sys.argv.pop()).resolve()
    unittest.main(verbosity=1)
