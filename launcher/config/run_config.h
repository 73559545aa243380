// Everything `sluice generate` can be told, by flag or by YAML key: one plain struct. What a key is
// called, its range and its flag stand in config_schema.cc, and for readers in
// docs/configuration.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "comm/device_channel.h"
#include "stage/request.h"
#include "stage/stage_config.h"

namespace sluice::launcher {

enum class WeightsFrom : std::uint8_t { checkpoint, dummy };
/// Whether generation_config.json says how to sample, where nothing else does.
enum class ModelSampling : std::uint8_t { automatic, none };
enum class ColorMode : std::uint8_t { automatic, always, never };
/// When the machine's rates are measured, which the report compares with: where none are known or
/// they are older than 30 days; now; never (known ones are shown).
enum class ProbeMode : std::uint8_t { automatic, again, never };

/// The output of a job whose answers nobody keeps.
constexpr const char* kNowhere = "/dev/null";

/// Where prompts come from and answers go. Exactly one of input, prompt and dummy prompts.
struct JobConfig {
  std::string input;       // JSON Lines, or text with one prompt per line; empty: none
  std::string output;      // JSON Lines; needed with `input`; empty: standard output
  bool resume = false;     // keep what `output` has and run the rest
  bool overwrite = false;  // replace `output`; without both an existing output is refused
  /// Most seconds that tokens of unfinished answers wait to be written to OUTPUT.journal; 0: they
  /// are not written.
  double journal_seconds = 1;
  bool keep_fields = false;  // an answer's record gives back the row's fields that are not ours
  bool strict = false;       // a row with a field that is not ours becomes an error record
  std::string shard;         // "i/n", or "slurm"; empty: all rows (shard.h)
  std::string prompt;        // one prompt, answered on standard output; empty: none

  /// Made-up prompts, to measure. FlexGen: --prompt-len, --gen-len.
  std::int32_t prompt_len = 0;   // tokens of each, >= 1; 0: no made-up prompts
  std::int32_t gen_len = 0;      // tokens of each answer, EOS ignored; 0: max_new_tokens
  std::int32_t num_prompts = 0;  // 0: one for every slot, as FlexGen does

  std::int64_t stop_after_seconds = 0;  // the job stops then, as SIGTERM would have it; 0: never

  bool has_dummy_prompts() const { return prompt_len > 0; }
};

/// What a row of the input does not say itself.
struct GenerationDefaults {
  std::int32_t max_new_tokens = 32;  // >= 0; each token of it costs KV cache in every slot
  stage::Sampling sampling;          // greedy
  std::vector<std::string> stop;     // the answer ends before the first of these; at most 16
  std::vector<std::int32_t> stop_token_ids;
  bool ignore_eos = false;          // go on to max_new_tokens
  bool skip_special_tokens = true;  // leave them out of the answer's text
  bool echo = false;                // the answer begins with the prompt
  ModelSampling model_sampling = ModelSampling::automatic;
  std::set<std::string> said;  // keys of these that a file or a flag gave
};

enum class DraftFrom : std::uint8_t { none, ngram };

/// Tokens that are guessed ahead of each row and verified in one pass.
struct DraftConfig {
  DraftFrom from = DraftFrom::none;
  std::string model;  // of the same vocabulary, which guesses in the place of `from`; empty: none
  offload::Compression compress_weight = offload::Compression::none;  // that model's
  std::int32_t tokens = 8;                                            // most of a row in one pass
};

struct CommConfig {
  comm::Transport transport = comm::Transport::automatic;  // of hidden states
  double heartbeat_seconds = 0.5;                          // (0, 60]
  /// A rank that is silent for so long is given up, and the job ends: (heartbeat, 86400].
  double deadline_seconds = 60;
};

struct ReportConfig {
  std::string file;    // JSON: what was done, per stage; empty: none
  std::string trace;   // Chrome trace JSON (opens in Perfetto); empty: none. Costs memory per span.
  bool quiet = false;  // no progress, no tables; errors and answers only
  ColorMode color = ColorMode::automatic;  // automatic: on a terminal, unless NO_COLOR is set
  ProbeMode probe = ProbeMode::automatic;  // measures only where a report is wanted or seen
};

struct RunConfig {
  std::string model;  // folder, or hub id in the local Hugging Face cache. FlexGen: --model, --path
  WeightsFrom weights = WeightsFrom::checkpoint;  // dummy: made-up values in the model's shapes
  std::vector<std::string> lora;  // adapters that rows may name, "NAME=DIR" each (adapter_folder.h)
  /// Machine file that predictions go by; empty: this machine's own, of the cache folder.
  std::string machine;

  /// What a stage has that does not say otherwise; first_layer and layers are not used.
  stage::StageConfig stage_defaults;
  /// One per rank; empty: as many as ranks, each as stage_defaults, with the layers split by
  /// weight. `layers` is set for all of them or for none (0: split by weight).
  std::vector<stage::StageConfig> stages;

  stage::Batching batching;
  DraftConfig draft;         // describe() sets batching.draft_tokens by it
  std::string io_directory;  // for this run's offload files; empty: see offload_directory()
  /// For packed weights, kept for later runs; empty: $XDG_CACHE_HOME/sluice or ~/.cache/sluice.
  std::string packed_directory;
  CommConfig comm;
  JobConfig job;
  GenerationDefaults generation;
  ReportConfig report;

  /// Keys that a file or a flag gave: "batching.gpu_batch_size"; of all stages of a list alike:
  /// "stages.policy.weights".
  std::set<std::string> said;
};

/// io_directory, or where that is empty $TMPDIR, or where that is not set the current directory;
/// never /tmp unasked: it often is host memory.
std::filesystem::path offload_directory(const RunConfig& config);

/// What a run that ends early tells its user to do.
std::string advice_after_end(const JobConfig& job);

/// What single keys cannot show: contradictions between them, each in one sentence (empty: none).
/// `needs_job`: a run, not only a plan: there must be prompts, and a place for their answers.
std::vector<std::string> contradictions(const RunConfig& config, bool needs_job);

}  // namespace sluice::launcher
