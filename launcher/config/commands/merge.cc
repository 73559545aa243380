#include <fmt/format.h>

#include "launcher/config/commands/pages.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice merge FILE... --output FILE [--input FILE]

Example:
  sluice merge answers.*.jsonl --input prompts.jsonl --output answers.jsonl

Puts the outputs of several runs of one job together, such as those of its shards: of each row
its first answer, or else its last error record, once. With --input they stand in its rows' order,
and rows without a record are named; without it in the order of the files. Any file may be gzip or
zstd. The status is 6 where rows have no answer, or records no row. The output is written all the
same, and sluice generate --resume answers what it lacks.

)";
}

std::vector<FlagGroup> flags() {
  return {
      {"Flags",
       {{"files", "FILE...", "outputs of sluice generate", true},
        {"--output,-o", "FILE", "the file to write; gzip or zstd where its name ends in .gz, .zst"},
        {"--input", "FILE", "the input of the job: says the order, and which rows there are"},
        {"--overwrite", "", "replace an output that is there"}}}};
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::merge;
  MergeArguments& arguments = parsed.merge;
  std::vector<std::string> problems;
  given.check("merge", words, problems);
  arguments.files = given.values("files");
  arguments.output = given.value("--output");
  arguments.input = given.value("--input");
  arguments.overwrite = given.has("--overwrite");
  if (arguments.files.empty()) problems.emplace_back("no files to merge: sluice merge FILE...");
  if (arguments.files.size() > kMostMergedFiles) {
    problems.push_back(fmt::format("{} files are more than {}; merge some of them first",
                                   arguments.files.size(), kMostMergedFiles));
  }
  if (arguments.output.empty()) problems.emplace_back("no output: give --output FILE");
  if (arguments.input == "-" || arguments.output == "-") {
    problems.emplace_back("merge reads and writes files; standard input and output (-) are none");
  }
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& merge_page() {
  static const CommandPage page = {
      "merge", "Puts the answers of several runs together, in the input's order", usage, flags,
      read};
  return page;
}

}  // namespace sluice::launcher
