#include "launcher/config/cli_help.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config/config_schema.h"

namespace sluice::launcher {

namespace {

/// Meanings that are empty here are the schema's.
std::vector<FlagGroup> generate_groups() {
  return {
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
        {"--generation-config", "auto|none"},
        {"--seed", "N"},
        {"--stop", "TEXT",
         "text that ends an answer; may be repeated, up to 16; \\n, \\t and \\\\ are understood"},
        {"--stop-token-id", "ID", "token that ends an answer; may be repeated"},
        {"--ignore-eos", ""},
        {"--skip-special-tokens", "0|1"},
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
        {"--schedule", "",
         "with --dry-run: print each task of a decode step, its resource, bytes and FLOP, and the "
         "tasks it comes after"},
        {"--quiet", ""},
        {"--color", "WHEN"},
        {"--probe", "auto|again|never"}}}};
}

std::string meaning_of(const KeyDescription& key) {
  std::string meaning = key.meaning;
  if (key.form.find(", ") != std::string::npos && !key.form.starts_with("whole") &&
      !key.form.starts_with("number")) {
    meaning += fmt::format(" ({})", key.form);
  }
  if (!key.is_boolean && !key.fallback.empty()) meaning += fmt::format(" [{}]", key.fallback);
  return meaning;
}

}  // namespace

std::string main_usage() {
  return R"(
Usage:
  sluice COMMAND [FLAGS]
  mpirun -n STAGES --bind-to none sluice generate [FLAGS]

Examples:
  sluice generate --model facebook/opt-1.3b --prompt "The capital of France is"
  sluice inspect ./opt-30b --device-memory 24GiB --host-memory 128GiB --stages 2

`sluice COMMAND --help` says more. Configuration files: docs/configuration.md.

)";
}

std::string generate_usage() {
  return R"(
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

Every flag but --config, --print-config, --dry-run and --schedule has a YAML key: see
docs/configuration.md. Defaults stand in [brackets].

)";
}

std::string inspect_usage() {
  return R"(
Usage:
  sluice inspect DIR|ID [FLAGS]

Example:
  sluice inspect ./opt-30b --device-memory 24GiB --host-memory 128GiB --stages 2

)";
}

std::string tokenize_usage() {
  return R"(
Usage:
  sluice tokenize --model DIR|ID [FLAGS]

Examples:
  echo "Hello, world" | sluice tokenize --model facebook/opt-125m
  echo "2 31414 6 232" | sluice tokenize --model facebook/opt-125m --decode
  echo '{"messages": [{"role": "user", "content": "Hi"}]}' | sluice tokenize --model DIR --messages

)";
}

std::vector<FlagGroup> generate_flags() {
  const std::vector<KeyDescription> keys = describe_keys();
  std::vector<FlagGroup> groups = generate_groups();
  for (FlagGroup& group : groups) {
    for (FlagHelp& help : group.flags) {
      const auto key = std::find_if(keys.begin(), keys.end(), [&](const KeyDescription& one) {
        return one.flags.substr(0, one.flags.find(',')) == help.flag;
      });
      if (key == keys.end()) continue;
      help.flag = key->flags;
      if (help.meaning.empty()) help.meaning = meaning_of(*key);
    }
  }
  return groups;
}

std::vector<FlagGroup> inspect_flags() {
  return {{"Flags",
           {{"--model,--path,model", "DIR|ID",
             "model folder, or hub id in the local Hugging Face cache"},
            {"--device-memory", "SIZE", "say whether it fits into so much memory per device"},
            {"--host-memory", "SIZE", "... and so much host memory per stage"},
            {"--stages", "N", "stages the layers are split over [1]"},
            {"--compress-weight", "[8bit|4bit]",
             "count weights as they are when they are compressed; without a value: 4bit"},
            {"--json", "", "print JSON"}}}};
}

std::vector<FlagGroup> tokenize_flags() {
  return {
      {"Flags",
       {{"--model,--path", "DIR|ID", "model folder, or hub id in the local Hugging Face cache"},
        {"--jsonl", "", R"(lines are {"text": "..."} and become {"ids": [...]})"},
        {"--decode", "", "the other way: ids to text"},
        {"--messages", "",
         R"(lines are {"messages": [...], "tools": [...], "add_generation_prompt": true} and )"
         R"(become {"text": ..., "ids": [...]} by the model's chat template)"},
        {"--explain", "", "say what was read: kind, files, normalizer, pattern, added tokens"}}}};
}

std::string exit_statuses() {
  return R"(Exit status:
  0  done                                        4  a memory tier or a disk is too small
  1  failed at run time (I/O, device)            5  another rank was lost
  2  wrong flag or configuration                 6  done, but some rows failed
  3  bad model or input file                 128+n  ended by signal n)";
}

std::string wrapped(const std::string& text, std::size_t width) {
  std::string lines;
  std::size_t column = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t blank = std::min(text.find(' ', at), text.size());
    const std::size_t length = blank - at;
    if (column > 0) {
      const bool fits = column + 1 + length <= width;
      lines += fits ? ' ' : '\n';
      column = fits ? column + 1 : 0;
    }
    lines.append(text, at, length);
    column += length;
    at = blank + 1;
  }
  return lines;
}

}  // namespace sluice::launcher
