#include "launcher/config/config_schema.h"

#include <fmt/format.h>

#include <cstdlib>
#include <limits>

namespace sluice::launcher {

namespace {

constexpr std::int64_t kMostSequences = 65536;
constexpr std::int64_t kMostTokens = 1 << 20;
constexpr std::size_t kMostStops = 16;
constexpr std::int64_t kMostGuesses = 64;
constexpr std::size_t kMostAdapters = 1024;

template <typename T>
void integer(SchemaVisitor& visitor, const ConfigKey& key, T& value, IntegerRange range) {
  auto wide = static_cast<std::int64_t>(value);
  visitor.integer(key, wide, range);
  value = static_cast<T>(wide);
}

/// A float is shown by its shortest decimal: 0.7, not 0.699999988.
void real(SchemaVisitor& visitor, const ConfigKey& key, float& value, RealRange range) {
  double wide = std::strtod(fmt::format("{}", value).c_str(), nullptr);
  visitor.real(key, wide, range);
  value = static_cast<float>(wide);
}

template <typename Enum, std::size_t count>
void choice(SchemaVisitor& visitor, const ConfigKey& key, Enum& value,
            const char* const (&names)[count]) {
  int index = static_cast<int>(value);
  visitor.choice(key, index, names);
  value = static_cast<Enum>(index);
}

void describe_cache_dtype(SchemaVisitor& visitor, std::optional<DType>& dtype) {
  static constexpr const char* kNames[] = {"auto", "f32", "f16", "bf16", "q8", "q4"};
  int index = dtype ? 1 + static_cast<int>(*dtype) : 0;
  visitor.choice(
      {"cache_dtype",
       "element type of the KV cache; auto: what the device computes in, f32 on the CPU; "
       "f16 and bf16 halve f32, q8 and q4 have 8 and 4 bits in groups of 64",
       "--cache-dtype"},
      index, kNames);
  dtype = index > 0 ? std::optional(static_cast<DType>(index - 1)) : std::nullopt;
}

void describe_policy(SchemaVisitor& visitor, offload::Policy& policy) {
  visitor.shares(
      {"weights", "where each layer's weights live, in percent of their bytes", "--percent"},
      policy.weights);
  visitor.shares({"cache", "where the KV cache lives, in percent of the sequences", "--percent"},
                 policy.cache);
  visitor.shares({"activations",
                  "where hidden states wait between layers, in percent of the tokens", "--percent"},
                 policy.activations);
  visitor.boolean({"cpu_cache_compute",
                   "attend the host's KV cache on the CPU instead of copying it "
                   "to the device",
                   "--cpu-cache-compute"},
                  policy.cpu_cache_compute);
  visitor.boolean({"pin_weight",
                   "pin host memory: faster copies, but pages the system cannot take "
                   "back",
                   "--pin-weight"},
                  policy.pin_weight);
  integer(visitor,
          {"weight_slots",
           "layers of streamed weights on the device at a time; one more "
           "hides a slower disk",
           "--weight-slots"},
          policy.weight_slots, {2, 64});
  visitor.boolean({"overlap",
                   "fetch what comes next beside computing; false: one after the other, to measure "
                   "what that gains",
                   "--overlap"},
                  policy.overlap);
  visitor.boolean({"mlp_once",
                   "compute the MLP of a layer once over all GPU batches; takes workspace for all "
                   "their tokens, and needs all activations on the device",
                   ""},
                  policy.mlp_once);
  describe_cache_dtype(visitor, policy.cache_dtype);
  constexpr RealRange kShareOfValues = {0, 1, true};
  visitor.real({"attn_sparsity",
                "share of the values of old tokens that each token of an answer attends to, those "
                "of the largest weights; below 1: fewer bytes, approximate answers",
                "--attn-sparsity"},
               policy.attn_sparsity, kShareOfValues);
  static constexpr const char* kCompressions[] = {"none", "8bit", "4bit"};
  choice(
      visitor,
      {"compress_weight", "quantise the matrices in groups of 64, once; found again by later runs",
       "--compress-weight"},
      policy.compress_weight, kCompressions);
}

/// Rates in 10^9 bytes per second.
void describe_limits(SchemaVisitor& visitor, stage::RateLimits& limits) {
  constexpr RealRange kRange = {0, 10000};
  if (visitor.enter(
          {"link", "the CPU backend's copies, slowed down to stand for another machine"})) {
    visitor.real({"host_to_device_gbps", "most GB/s from host to device; 0: no limit"},
                 limits.host_to_device_gbps, kRange);
    visitor.real({"device_to_host_gbps", "most GB/s from device to host; 0: no limit"},
                 limits.device_to_host_gbps, kRange);
    visitor.leave();
  }
  if (visitor.enter({"disk", "the disk, slowed down likewise"})) {
    visitor.real({"read_gbps", "most GB/s read; 0: no limit"}, limits.disk_read_gbps, kRange);
    visitor.real({"write_gbps", "most GB/s written; 0: no limit"}, limits.disk_write_gbps, kRange);
    visitor.leave();
  }
}

void describe_batching(SchemaVisitor& visitor, stage::Batching& batching) {
  if (!visitor.enter({"batching", "how prompts are put together"})) return;
  integer(visitor, {"gpu_batch_size", "sequences computed together", "--gpu-batch-size"},
          batching.gpu_batch_size, {1, kMostSequences});
  integer(
      visitor,
      {"num_gpu_batches", "GPU batches that share one loading of the weights", "--num-gpu-batches"},
      batching.num_gpu_batches, {1, stage::kMaxGpuBatches});
  integer(visitor,
          {"micro_batches", "micro-batches in flight; 0: stages + 1, or 1 with one stage",
           "--micro-batches"},
          batching.micro_batches, {0, 4096});
  integer(visitor,
          {"max_tokens_per_gpu_batch",
           "most new tokens of a GPU batch in one pass; longer "
           "prompts go in chunks; bounds the workspace",
           "--max-batch-tokens"},
          batching.max_tokens_per_gpu_batch, {1, kMostTokens});
  visitor.boolean({"share_prefixes",
                   "prompts that begin with the same tokens compute and keep these once; not with "
                   "sliding windows",
                   "--share-prefixes"},
                  batching.share_prefixes);
  visitor.boolean({"group_prefixes", "prompts that begin alike are started one after the other",
                   "--group-prefixes"},
                  batching.group_prefixes);
  visitor.leave();
}

void describe_draft(SchemaVisitor& visitor, DraftConfig& draft, stage::Batching& batching) {
  if (!visitor.enter({"draft", "tokens guessed ahead of a row, and verified in one pass"})) return;
  static constexpr const char* kFrom[] = {"none", "ngram"};
  choice(visitor,
         {"from",
          "who guesses; ngram: what followed a row's last tokens before, in its prompt or answer. "
          "The answers are the same tokens in fewer passes",
          "--draft"},
         draft.from, kFrom);
  visitor.text({"model",
                "folder, .gguf file or hub id of a small model with the same vocabulary, which "
                "guesses in the place of from; it is whole in rank 0's device memory",
                "--draft-model"},
               draft.model);
  static constexpr const char* kCompressions[] = {"none", "8bit", "4bit"};
  choice(visitor, {"compress_weight", "quantise that model's matrices", "--draft-compress-weight"},
         draft.compress_weight, kCompressions);
  integer(visitor, {"tokens", "most guesses of a row in one pass", "--draft-tokens"}, draft.tokens,
          {1, kMostGuesses});
  visitor.boolean({"adapts",
                   "fewer guesses where they cost more time than they save; false: always as many "
                   "as there are, to measure what that gains",
                   "--draft-adapts"},
                  batching.draft_adapts);
  visitor.leave();
  const bool guesses = draft.from != DraftFrom::none || !draft.model.empty();
  batching.draft_tokens = guesses ? draft.tokens : 0;
}

void describe_comm(SchemaVisitor& visitor, CommConfig& comm) {
  if (!visitor.enter({"comm", "messages between stages"})) return;
  static constexpr const char* kTransports[] = {"auto", "mpi", "nccl"};
  choice(
      visitor,
      {"transport",
       "how hidden states travel; auto: nccl, from GPU to GPU, where every rank has a GPU of its "
       "own, else mpi, through host memory",
       "--transport"},
      comm.transport, kTransports);
  visitor.real({"heartbeat_seconds", "time between signs of life"}, comm.heartbeat_seconds,
               {0, 60, true});
  visitor.real({"deadline_seconds", "silence after which a rank is given up and the job ends"},
               comm.deadline_seconds, {0, 86400, true});
  visitor.leave();
}

void describe_job(SchemaVisitor& visitor, JobConfig& job) {
  if (!visitor.enter({"job", "where prompts come from and answers go"})) return;
  visitor.text({"input", "prompts: JSON Lines, or text with one prompt per line; -: standard input",
                "--input"},
               job.input);
  visitor.text({"output", "answers: JSON Lines, one per prompt, as they finish; -: standard output",
                "--output"},
               job.output);
  visitor.boolean(
      {"resume",
       "keep the answers in output, go on with those that its journal has begun, and run the rest, "
       "rows with an error record included",
       "--resume"},
      job.resume);
  visitor.boolean({"overwrite", "replace an output that is there", "--overwrite"}, job.overwrite);
  visitor.real(
      {"journal_seconds",
       "tokens of unfinished answers are written to OUTPUT.journal within so many seconds, "
       "and --resume goes on behind them; 0: they are not written",
       "--journal-seconds"},
      job.journal_seconds, {0, 3600});
  visitor.boolean({"keep_fields",
                   "give back fields of a row that are not sluice's, as \"fields\" of its record",
                   "--keep-fields"},
                  job.keep_fields);
  visitor.boolean(
      {"strict", "make a row with such a field an error record instead of a warning", "--strict"},
      job.strict);
  visitor.text({"shard",
                "answer every n-th row, from row i on, counted from 0: i/n; slurm: as the task of "
                "a job array says; {shard} in the names of output, report and trace becomes i",
                "--shard"},
               job.shard);
  visitor.text({"prompt", "one prompt, answered on standard output", "--prompt"}, job.prompt);
  integer(visitor,
          {"prompt_len", "made-up prompts of so many tokens, to measure; 0: none", "--prompt-len"},
          job.prompt_len, {0, kMostTokens});
  integer(visitor,
          {"gen_len",
           "tokens of each answer to a made-up prompt, EOS ignored; 0: "
           "max_new_tokens",
           "--gen-len"},
          job.gen_len, {0, kMostTokens});
  integer(visitor,
          {"num_prompts", "number of made-up prompts; 0: one for every slot", "--num-prompts"},
          job.num_prompts, {0, 1 << 30});
  visitor.duration({"stop_after",
                    "stop so long after the start, as at SIGTERM, with everything kept for resume; "
                    "0s: never",
                    "--stop-after"},
                   job.stop_after_seconds);
  visitor.leave();
}

void describe_generation(SchemaVisitor& visitor, GenerationDefaults& generation) {
  if (!visitor.enter({"generation", "what a prompt gets that does not say otherwise"})) return;
  stage::Sampling& sampling = generation.sampling;
  integer(visitor, {"max_new_tokens", "most tokens of an answer", "--max-new-tokens"},
          generation.max_new_tokens, {0, kMostTokens});
  real(visitor,
       {"temperature", "0: the likeliest token (greedy); higher: more chance", "--temperature"},
       sampling.temperature, {0, 100});
  integer(visitor, {"top_k", "sample among the k likeliest; 0: all", "--top-k"}, sampling.top_k,
          {0, kMostTokens});
  real(visitor,
       {"top_p", "sample among the likeliest that have this probability together", "--top-p"},
       sampling.top_p, {0, 1, true});
  real(visitor,
       {"repetition_penalty", "above 1: tokens seen before become less likely",
        "--repetition-penalty"},
       sampling.repetition_penalty, {0.01, 100});
  real(visitor,
       {"frequency_penalty", "subtracted from a token's logit for each time the answer has it",
        "--frequency-penalty"},
       sampling.frequency_penalty, {-2, 2});
  real(visitor,
       {"presence_penalty", "subtracted from the logits of tokens that the answer has",
        "--presence-penalty"},
       sampling.presence_penalty, {-2, 2});
  real(visitor,
       {"min_p", "sample among the tokens that have this share of the likeliest one's probability",
        "--min-p"},
       sampling.min_p, {0, 1});
  integer(visitor,
          {"no_repeat_ngram_size", "no n tokens come twice in this order; 0: they may",
           "--no-repeat-ngram-size"},
          sampling.no_repeat_ngram, {0, kMostTokens});
  integer(
      visitor,
      {"min_tokens", "the answer does not end by a token before it has so many", "--min-tokens"},
      sampling.min_tokens, {0, kMostTokens});
  integer(visitor, {"seed", "of sampling; the same seed and prompt give the same answer", "--seed"},
          sampling.seed, {0, std::numeric_limits<std::int64_t>::max()});
  visitor.texts(
      {"stop", "texts that end an answer, at most 16; the flag gives one, and may be repeated",
       "--stop"},
      generation.stop, kMostStops);
  visitor.integers({"stop_token_ids", "tokens that end an answer", "--stop-token-id"},
                   generation.stop_token_ids, {0, std::numeric_limits<std::int32_t>::max()});
  visitor.boolean({"ignore_eos", "do not end at the model's end-of-text token", "--ignore-eos"},
                  generation.ignore_eos);
  visitor.boolean(
      {"skip_special_tokens", "leave special tokens, such as </s>, out of the answer's text",
       "--skip-special-tokens"},
      generation.skip_special_tokens);
  integer(
      visitor,
      {"logprobs", "report each token's log-probability and the n likeliest; -1: no", "--logprobs"},
      sampling.logprobs, {-1, stage::kMaxLogprobs});
  visitor.boolean({"echo", "begin the answer with the prompt", "--echo"}, generation.echo);
  static constexpr const char* kModelSampling[] = {"auto", "none"};
  choice(visitor,
         {"generation_config",
          "auto: temperature, top_k, top_p, min_p, repetition_penalty and no_repeat_ngram_size "
          "that are given nowhere else are "
          "those of the model's generation_config.json; none: they are as above",
          "--generation-config"},
         generation.model_sampling, kModelSampling);
  visitor.leave();
}

void describe_report(SchemaVisitor& visitor, ReportConfig& report) {
  if (!visitor.enter({"report", "what is told about the run"})) return;
  visitor.text({"file", "write a JSON report of the run", "--report"}, report.file);
  visitor.text(
      {"trace", "write a Chrome trace of every span; open it in ui.perfetto.dev", "--trace"},
      report.trace);
  visitor.boolean({"quiet", "no progress and no tables: answers and errors only", "--quiet"},
                  report.quiet);
  static constexpr const char* kModes[] = {"auto", "always", "never"};
  choice(visitor, {"color", "auto: on a terminal, unless NO_COLOR is set", "--color"}, report.color,
         kModes);
  static constexpr const char* kProbes[] = {"auto", "again", "never"};
  choice(visitor,
         {"probe",
          "measure this machine's rates, which the report compares with (1.5 s, kept for 30 days); "
          "auto: where a report file is wanted or a terminal shows it",
          "--probe"},
         report.probe, kProbes);
  visitor.leave();
}

}  // namespace

void describe_stage(SchemaVisitor& visitor, stage::StageConfig& stage) {
  visitor.text({"device", "auto, cpu, cuda, or cuda:N", "--device"}, stage.device);
  integer(visitor, {"threads", "of the CPU backend; 0: the cores this rank may use", "--threads"},
          stage.threads, {0, 4096});
  if (visitor.enter({"budget", "most bytes of each tier"})) {
    visitor.size(
        {"device", "device memory this stage may use; 0: what is there", "--device-memory"},
        stage.budgets.bytes[0]);
    visitor.size({"host", "host memory this stage may use; 0: no limit", "--host-memory"},
                 stage.budgets.bytes[1]);
    visitor.size({"disk", "disk space this stage may use; 0: no limit", "--disk-memory"},
                 stage.budgets.bytes[2]);
    visitor.leave();
  }
  if (visitor.enter({"policy", "where this stage keeps its bytes"})) {
    describe_policy(visitor, stage.policy);
    visitor.leave();
  }
  describe_limits(visitor, stage.limits);
}

void describe(SchemaVisitor& visitor, RunConfig& config) {
  visitor.text({"model", "model folder, .gguf file, or hub id in the local Hugging Face cache",
                "--model,--path"},
               config.model);
  static constexpr const char* kWeights[] = {"checkpoint", "dummy"};
  choice(visitor,
         {"weights",
          "dummy: made-up values in the model's shapes, to measure without a "
          "checkpoint",
          "--weights"},
         config.weights, kWeights);
  visitor.texts(
      {"lora",
       "adapters that rows may name, NAME=DIR of a folder that PEFT saved; the flag gives one, and "
       "may be repeated",
       "--lora"},
      config.lora, kMostAdapters);
  visitor.text(
      {"machine",
       "machine file that the run is planned and predicted by; empty: this machine's own, which "
       "sluice calibrate wrote into the cache folder",
       "--machine"},
      config.machine);
  if (visitor.enter({"stage_defaults", "what every stage has that does not say otherwise"})) {
    describe_stage(visitor, config.stage_defaults);
    visitor.leave();
  }
  visitor.stages({"stages", "one item per rank; empty: layers are split over the ranks by weight"},
                 config.stages, config.stage_defaults);
  describe_batching(visitor, config.batching);
  describe_draft(visitor, config.draft, config.batching);
  if (visitor.enter({"io", "files"})) {
    visitor.text({"directory",
                  "folder for this run's offload files; empty: $TMPDIR, or else the "
                  "current folder",
                  "--offload-dir"},
                 config.io_directory);
    visitor.text(
        {"packed_directory",
         "folder for packed weights (quantised, or widened from a GGUF file), kept for later runs; "
         "empty: $XDG_CACHE_HOME/sluice, or else ~/.cache/sluice",
         "--packed-dir"},
        config.packed_directory);
    visitor.leave();
  }
  describe_comm(visitor, config.comm);
  describe_job(visitor, config.job);
  describe_generation(visitor, config.generation);
  describe_report(visitor, config.report);
}

}  // namespace sluice::launcher
