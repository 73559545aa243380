#include "launcher/config/run_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/config/shard.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

void check_job(const JobConfig& job, bool needs_job, std::vector<std::string>& problems) {
  const int sources = static_cast<int>(!job.input.empty()) + static_cast<int>(!job.prompt.empty()) +
                      static_cast<int>(job.has_dummy_prompts());
  if (sources > 1) {
    problems.emplace_back(
        "--input (job.input), --prompt (job.prompt) and --prompt-len (job.prompt_len) each say "
        "where "
        "the prompts come from: give one of them");
  }
  if (sources == 0 && needs_job) {
    problems.emplace_back(
        "there is nothing to do: give --input FILE, --prompt TEXT, or --prompt-len N for made-up "
        "prompts");
  }
  if (!job.has_dummy_prompts() && (job.gen_len > 0 || job.num_prompts > 0)) {
    problems.emplace_back(fmt::format(
        "{} is for made-up prompts and needs --prompt-len N; {}",
        job.gen_len > 0 ? "--gen-len (job.gen_len)" : "--num-prompts (job.num_prompts)",
        job.gen_len > 0 ? "for your own prompts use --max-new-tokens" : "or leave it out"));
  }
  if (needs_job && !job.input.empty() && job.output.empty()) {
    problems.emplace_back("--input needs --output FILE (job.output) for the answers");
  }
  if (job.resume && job.overwrite) {
    problems.emplace_back(
        "--resume keeps the answers that are there and --overwrite discards them: give one of "
        "them");
  }
  if (job.keep_fields && job.strict) {
    problems.emplace_back(
        "--keep-fields gives back fields that --strict refuses: give one of them");
  }
  if (job.resume && job.output == "-") {
    problems.emplace_back(
        "--resume goes on with an --output file; standard output (-) has nothing to go on with");
  }
  if (job.resume && job.input.empty()) {
    problems.emplace_back("--resume goes on with an --input file and its --output: give both");
  }
}

/// Whether both names lead to one file, also through links.
bool same_file(const std::string& one, const std::string& other) {
  if (one.empty() || other.empty() || one == "-" || other == "-") return false;
  std::error_code error;
  return one == other || std::filesystem::equivalent(one, other, error);
}

void check_files(const RunConfig& config, std::vector<std::string>& problems) {
  for (const auto& [flag, path] :
       {std::pair{"--report", &config.report.file}, std::pair{"--trace", &config.report.trace}}) {
    if (*path == "-") {
      problems.push_back(fmt::format(
          "{} writes a file, and standard output (-) is none; give a name, or ./-", flag));
    }
  }
  struct Named {
    const char* flag;
    const std::string& path;
  };
  const Named files[] = {{"--input", config.job.input},
                         {"--output", config.job.output},
                         {"--report", config.report.file},
                         {"--trace", config.report.trace}};
  for (std::size_t i = 0; i < std::size(files); ++i) {
    for (std::size_t j = i + 1; j < std::size(files); ++j) {
      if (!same_file(files[i].path, files[j].path)) continue;
      problems.push_back(
          fmt::format("{} and {} are the same file, '{}': one would destroy the other",
                      files[i].flag, files[j].flag, offload::printable(files[j].path)));
    }
  }
}

bool asks_for_sparse_codes(const RunConfig& config) {
  const auto asks = [](const stage::StageConfig& stage) {
    const offload::Policy& policy = stage.policy;
    return policy.kept_millionths() > 0 && policy.cache_dtype && is_quantized(*policy.cache_dtype);
  };
  return asks(config.stage_defaults) || std::ranges::any_of(config.stages, asks);
}

}  // namespace

std::filesystem::path offload_directory(const RunConfig& config) {
  if (!config.io_directory.empty()) return config.io_directory;
  const char* temporary = std::getenv("TMPDIR");
  return temporary != nullptr && *temporary != '\0' ? temporary : ".";
}

std::string advice_after_end(const JobConfig& job) {
  if (!job.prompt.empty()) return "nothing of the answer is kept";
  if (job.has_dummy_prompts()) return "nothing is kept of made-up prompts";
  if (job.output == "-") return "there is no output file to go on with";
  return job.overwrite ? "run it again with --resume in place of --overwrite"
                       : "run it again with --resume";
}

std::vector<std::string> contradictions(const RunConfig& config, bool needs_job) {
  std::vector<std::string> problems;
  if (config.model.empty()) {
    problems.emplace_back(
        "no model: give --model DIR (or the key model), or a hub id such as "
        "facebook/opt-1.3b");
  }
  check_job(config.job, needs_job, problems);
  check_files(config, problems);
  if (std::string problem = shard_problem(config); !problem.empty()) {
    problems.push_back(std::move(problem));
  }
  const stage::Batching& batching = config.batching;
  if (batching.max_tokens_per_gpu_batch < batching.gpu_batch_size) {
    problems.push_back(fmt::format(
        "--max-batch-tokens (batching.max_tokens_per_gpu_batch) is {}, less than the {} sequences "
        "of "
        "--gpu-batch-size (batching.gpu_batch_size), each of which has a token in every pass",
        batching.max_tokens_per_gpu_batch, batching.gpu_batch_size));
  }
  if (asks_for_sparse_codes(config)) {
    problems.emplace_back(
        "--attn-sparsity (policy.attn_sparsity) below 1 cannot go with a compressed cache: leave "
        "it out, or --compress-cache (policy.cache_dtype q4 or q8)");
  }
  try {
    batching.slots(std::max(1, static_cast<std::int32_t>(config.stages.size())));
  } catch (const ConfigError& problem) {  // asked again where the number of ranks is known
    problems.emplace_back(problem.what());
  }
  if (config.draft.from != DraftFrom::none && !config.draft.model.empty()) {
    problems.emplace_back(
        "--draft (draft.from) and --draft-model (draft.model) both say who guesses; give one of "
        "them");
  }
  if (config.draft.compress_weight != offload::Compression::none && config.draft.model.empty()) {
    problems.emplace_back(
        "--draft-compress-weight (draft.compress_weight) is of the model of --draft-model "
        "(draft.model), which is not given");
  }
  if (config.comm.deadline_seconds <= config.comm.heartbeat_seconds) {
    problems.push_back(
        fmt::format("comm.deadline_seconds is {}, not longer than comm.heartbeat_seconds, which is "
                    "{}: every rank "
                    "would be given up between two heartbeats",
                    config.comm.deadline_seconds, config.comm.heartbeat_seconds));
  }
  return problems;
}

}  // namespace sluice::launcher
