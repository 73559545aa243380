#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"

namespace sluice::launcher {

namespace {

/// Meanings that are empty here are the schema's.
std::vector<FlagGroup> groups() {
  return {
      {"Model",
       {{"--model", "DIR|ID"},
        {"--weights", "KIND"},
        {"--lora", "NAME=DIR"},
        {"--machine", "FILE"},
        {"--config", "FILE", "read this YAML file first; flags win over it, for all stages"}}},
      {"Prompts and answers (one of --input, --prompt, --prompt-len)",
       {{"--input", "FILE"},
        {"--output", "FILE"},
        {"--resume", ""},
        {"--overwrite", ""},
        {"--journal-seconds", "S"},
        {"--keep-fields", ""},
        {"--strict", ""},
        {"--shard", "I/N|slurm"},
        {"--stop-after", "TIME"},
        {"--prompt", "TEXT"},
        {"--prompt-len", "N"},
        {"--gen-len", "N"},
        {"--num-prompts", "N"}}},
      {"What a prompt gets that does not say otherwise",
       {{"--max-new-tokens", "N"},
        {"--temperature", "T"},
        {"--top-k", "K"},
        {"--top-p", "P"},
        {"--min-p", "P"},
        {"--repetition-penalty", "R"},
        {"--frequency-penalty", "F"},
        {"--presence-penalty", "F"},
        {"--no-repeat-ngram-size", "N"},
        {"--min-tokens", "N"},
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
        {"--attn-sparsity", "R"},
        {"--packed-dir", "DIR"},
        {"--weight-slots", "N"},
        {"--overlap", "0|1"}}},
      {"Batching and devices",
       {{"--gpu-batch-size", "N"},
        {"--num-gpu-batches", "N"},
        {"--micro-batches", "N"},
        {"--max-batch-tokens", "N"},
        {"--share-prefixes", "0|1"},
        {"--group-prefixes", "0|1"},
        {"--draft", "none|ngram"},
        {"--draft-model", "DIR|ID"},
        {"--draft-compress-weight", "none|8bit|4bit"},
        {"--draft-tokens", "N"},
        {"--draft-adapts", "0|1"},
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

std::string usage() {
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

std::vector<FlagGroup> flags() { return with_schema(groups()); }

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::generate;
  read_run_config(given, words, "generate", parsed.config);
  parsed.print_config = given.has("--print-config");
  parsed.dry_run = given.has("--dry-run");
  parsed.schedule = given.has("--schedule");
  if (parsed.print_config) return;  // a configuration may be looked at before it is complete
  std::vector<std::string> problems = contradictions(parsed.config, !parsed.dry_run);
  if (parsed.schedule && !parsed.dry_run) {
    problems.emplace_back("--schedule prints what a dry run plans; give --dry-run with it");
  }
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& generate_page() {
  static const CommandPage page = {"generate",
                                   "Answers prompts: from a file, one given, or made up to measure",
                                   usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
