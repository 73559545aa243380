#include "launcher/config/cli_help.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config/config_schema.h"

namespace sluice::launcher {

namespace {

/// A flag's line. `meaning` is null where the schema has it.
struct FlagHelp {
  const char* flag;
  const char* value;  // empty: the flag takes none
  const char* meaning = nullptr;
};

struct FlagGroup {
  const char* title;
  std::vector<FlagHelp> flags;
};

const std::vector<FlagGroup>& generate_groups() {
  static const std::vector<FlagGroup> kGroups = {
      {"Model",
       {{"--model", "DIR|ID"},
        {"--weights", "KIND"},
        {"--config", "FILE", "read this YAML file first; flags win over it, for all stages"}}},
      {"Prompts and answers (one of --input, --prompt, --prompt-len)",
       {{"--input", "FILE"},
        {"--output", "FILE"},
        {"--resume", ""},
        {"--overwrite", ""},
        {"--prompt", "TEXT"},
        {"--prompt-len", "N"},
        {"--gen-len", "N"},
        {"--num-prompts", "N"}}},
      {"What a prompt gets that does not say otherwise",
       {{"--max-new-tokens", "N"},
        {"--temperature", "T"},
        {"--top-k", "K"},
        {"--top-p", "P"},
        {"--repetition-penalty", "R"},
        {"--seed", "N"},
        {"--stop", "TEXT",
         "text that ends an answer; may be repeated, up to 16; \\n, \\t and \\\\ are understood"},
        {"--stop-token-id", "ID", "token that ends an answer; may be repeated"},
        {"--ignore-eos", ""},
        {"--logprobs", "N"},
        {"--echo", ""}}},
      {"Where bytes live (FlexGen's words; SIZE is 16GiB, 512 MiB, 1.5e9)",
       {{"--percent", "W_gpu W_cpu C_gpu C_cpu A_gpu A_cpu",
         "shares of weights, KV cache and activations in GPU and host memory, in percent; what is "
         "missing to 100 is on disk [100 0 100 0 100 0]"},
        {"--device-memory", "SIZE"},
        {"--host-memory", "SIZE"},
        {"--disk-memory", "SIZE"},
        {"--offload-dir", "DIR"},
        {"--pin-weight", "0|1"},
        {"--cpu-cache-compute", ""},
        {"--cache-dtype", "TYPE"},
        {"--compress-cache", "[8bit|4bit]", "the same as --cache-dtype q8 or q4 [4bit]"},
        {"--compress-weight", "[none|8bit|4bit]",
         "quantise the matrices in groups of 64, once; found again by later runs; without a value: "
         "4bit [none]"},
        {"--packed-dir", "DIR"},
        {"--weight-slots", "N"},
        {"--overlap", "0|1"}}},
      {"Batching and devices",
       {{"--gpu-batch-size", "N"},
        {"--num-gpu-batches", "N"},
        {"--micro-batches", "N"},
        {"--max-batch-tokens", "N"},
        {"--device", "NAME"},
        {"--threads", "N"},
        {"--transport", "NAME"}}},
      {"What is told",
       {{"--report", "FILE"},
        {"--trace", "FILE"},
        {"--print-config", "", "print the whole configuration as YAML and end"},
        {"--dry-run", "", "print which layers and bytes go where, load nothing, and end"},
        {"--quiet", ""},
        {"--color", "WHEN"},
        {"--probe", "auto|again|never"},
        {"--help", "", "print this"}}}};
  return kGroups;
}

constexpr std::size_t kColumn = 26;  // where meanings begin
constexpr std::size_t kWidth = 96;

/// "  --flag VALUE      meaning", the meaning wrapped and indented.
std::string flag_lines(const std::string& flag, const std::string& meaning) {
  std::string out = "  " + flag;
  out += out.size() < kColumn - 1 ? std::string(kColumn - out.size(), ' ')
                                  : "\n" + std::string(kColumn, ' ');
  std::size_t column = kColumn;
  std::size_t at = 0;
  while (at < meaning.size()) {
    const std::size_t space = std::min(meaning.find(' ', at), meaning.size());
    const std::size_t length = space - at;
    if (column > kColumn && column + 1 + length > kWidth) {
      out += "\n" + std::string(kColumn, ' ');
      column = kColumn;
    } else if (column > kColumn) {
      out += ' ';
      ++column;
    }
    out += meaning.substr(at, length);
    column += length;
    at = space + 1;
  }
  return out + "\n";
}

bool has_flag(const std::string& flags, const std::string& flag) {
  return flags == flag || flags.starts_with(flag + ",");
}

std::string meaning_of(const FlagHelp& help, const std::vector<KeyDescription>& keys) {
  if (help.meaning != nullptr) return help.meaning;
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const KeyDescription& description) {
    return has_flag(description.flags, help.flag);
  });
  if (key == keys.end()) return {};
  std::string meaning = key->meaning;
  if (key->form.find(", ") != std::string::npos && !key->form.starts_with("whole") &&
      !key->form.starts_with("number")) {
    meaning += fmt::format(" ({})", key->form);
  }
  if (!key->is_boolean && !key->fallback.empty()) meaning += fmt::format(" [{}]", key->fallback);
  return meaning;
}

constexpr const char* kExitStatuses =
    R"(Exit status:
  0  done                                        4  a memory tier or a disk is too small
  1  failed at run time (I/O, device)            5  another rank was lost
  2  wrong flag or configuration                 6  done, but some rows failed
  3  bad model or input file                 128+n  ended by signal n
)";

}  // namespace

std::string main_help() {
  std::string out = R"(sluice runs OPT models that are larger than the memory of your GPUs.

Usage:
  sluice COMMAND [FLAGS]
  mpirun -n STAGES --bind-to none sluice generate [FLAGS]

Commands:
  generate    answer prompts: from a file, one from the command line, or made up to measure
  inspect     say what a model is, and whether it fits, without loading it
  tokenize    text on standard input to token ids, and back
  version     print the version

`sluice COMMAND --help` says more. Configuration files: docs/configuration.md.

Examples:
  sluice generate --model facebook/opt-1.3b --prompt "The capital of France is"
  sluice inspect ./opt-30b --device-memory 24GiB --host-memory 128GiB --stages 2

)";
  return out.append(kExitStatuses);
}

std::string generate_help() {
  std::string out = R"(Answers prompts with an OPT model, in one stage per MPI rank.

Usage:
  sluice generate --model DIR|ID --prompt TEXT [FLAGS]
  mpirun -n STAGES --bind-to none sluice generate --model DIR|ID --input FILE --output FILE [FLAGS]

Examples:
  One answer, on this machine:
    sluice generate --model facebook/opt-1.3b --prompt "The capital of France is"
  A job over night; run the same line again to go on after a crash:
    mpirun -n 4 --bind-to none sluice generate --config cluster-configs/workstation-4gpu.yaml \
        --model ./opt-30b --input prompts.jsonl --output answers.jsonl --resume
  Weights: a fifth in 16 GiB of GPU memory, half in host memory, the rest on disk:
    sluice generate --model ./opt-30b --percent 20 50 0 100 100 0 --device-memory 16GiB \
        --gpu-batch-size 16 --num-gpu-batches 4 --input prompts.jsonl --output answers.jsonl
  Will it fit?
    sluice generate --model ./opt-30b --percent 20 50 0 100 100 0 --prompt-len 512 --dry-run
)";
  const std::vector<KeyDescription> keys = describe_keys();
  for (const FlagGroup& group : generate_groups()) {
    out += fmt::format("\n{}:\n", group.title);
    for (const FlagHelp& help : group.flags) {
      const std::string flag = *help.value == '\0' ? std::string(help.flag)
                                                   : fmt::format("{} {}", help.flag, help.value);
      out += flag_lines(flag, meaning_of(help, keys));
    }
  }
  out +=
      "\n--path is another name of --model. Defaults stand in [brackets]. Every flag but "
      "--config,\n"
      "--print-config and --dry-run has a YAML key: see docs/configuration.md.\n\n";
  return out + kExitStatuses;
}

std::string inspect_help() {
  std::string out = R"(Says what a model is, reading only the headers of its files.

Usage:
  sluice inspect DIR|ID [FLAGS]

Example:
  sluice inspect ./opt-30b --device-memory 24GiB --host-memory 128GiB --stages 2

Flags:
)";
  out += flag_lines("--model DIR|ID", "model folder, or hub id in the local Hugging Face cache");
  out += flag_lines("--device-memory SIZE", "say whether it fits into so much memory per device");
  out += flag_lines("--host-memory SIZE", "... and so much host memory per stage");
  out += flag_lines("--stages N", "stages the layers are split over [1]");
  out += flag_lines("--compress-weight [8bit|4bit]",
                    "count weights as they are when they are compressed; without a value: 4bit");
  out += flag_lines("--json", "print JSON");
  out += flag_lines("--help", "print this");
  return out + "\n" + kExitStatuses;
}

std::string tokenize_help() {
  std::string out = R"(Reads text from standard input, line by line, and prints its token ids.

Usage:
  sluice tokenize --model DIR|ID [FLAGS]

Examples:
  echo "Hello, world" | sluice tokenize --model facebook/opt-125m
  echo "2 31414 6 232" | sluice tokenize --model facebook/opt-125m --decode

Flags:
)";
  out += flag_lines("--model DIR|ID", "model folder, or hub id in the local Hugging Face cache");
  out += flag_lines("--jsonl", R"(lines are {"text": "..."} and become {"ids": [...]})");
  out += flag_lines("--decode", "the other way: ids to text");
  out += flag_lines("--help", "print this");
  return out + "\n" + kExitStatuses;
}

std::vector<std::string> flags_in_help() {
  std::vector<std::string> flags;
  for (const FlagGroup& group : generate_groups()) {
    for (const FlagHelp& help : group.flags) flags.emplace_back(help.flag);
  }
  return flags;
}

}  // namespace sluice::launcher
