#include "launcher/planner/plan_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "kernels/device/error.h"
#include "launcher/planner/prediction.h"
#include "stage/layer_split.h"

namespace sluice::launcher {

namespace {

bool says_policy(const RunConfig& config, const std::string& key) {
  return config.said.contains("stage_defaults.policy." + key) ||
         config.said.contains("stages.policy." + key);
}
bool says_batching(const RunConfig& config, const std::string& key) {
  return config.said.contains("batching." + key);
}

/// Words of a shell that need no quotes stay as they are.
std::string quoted(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-+=./,:%@") == std::string::npos;
  if (plain) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string start_of(const Plan& plan) {
  return plan.stages.size() == 1
             ? "sluice generate"
             : fmt::format("mpirun -n {} --bind-to none sluice generate", plan.stages.size());
}

std::string job_flags(const RunConfig& config) {
  const JobConfig& job = config.job;
  if (!job.input.empty()) {
    return fmt::format(" --input {} --output {}", quoted(job.input),
                       quoted(job.output.empty() ? "answers.jsonl" : job.output));
  }
  if (!job.has_dummy_prompts()) return "";
  std::string flags = fmt::format(" --prompt-len {}", job.prompt_len);
  if (job.gen_len > 0) flags += fmt::format(" --gen-len {}", job.gen_len);
  if (job.num_prompts > 0) flags += fmt::format(" --num-prompts {}", job.num_prompts);
  return flags;
}

std::string policy_flags(const offload::Policy& policy) {
  std::string flags = " --percent";
  for (const offload::Shares* shares : {&policy.weights, &policy.cache, &policy.activations}) {
    flags += fmt::format(" {:.4g} {:.4g}", shares->device, shares->host);
  }
  if (policy.cpu_cache_compute) flags += " --cpu-cache-compute";
  if (policy.cache_dtype) flags += fmt::format(" --cache-dtype {}", name_of(*policy.cache_dtype));
  if (policy.kept_millionths() > 0) {
    flags += fmt::format(" --attn-sparsity {}", policy.attn_sparsity);
  }
  if (policy.compress_weight != offload::Compression::none) {
    const bool eight = policy.compress_weight == offload::Compression::eight_bit;
    flags += fmt::format(" --compress-weight {}", eight ? "8bit" : "4bit");
  }
  return flags;
}

/// All stages alike, with the layers that a run without `stages` gives them.
bool flags_say(const RunConfig& config, const Plan& plan) {
  if (!config.stages.empty()) return false;
  const offload::Policy& first = plan.stages.front().config.policy;
  return plan.stages.size() == 1 ||
         (plan.even_layers && std::ranges::all_of(plan.stages, [&](const PlannedStage& stage) {
            return same_shares(stage.config.policy, first);
          }));
}

}  // namespace

Decided decided_by(const RunConfig& config) {
  Decided decided;
  decided.weights = says_policy(config, "weights");
  decided.cache = says_policy(config, "cache");
  decided.activations = says_policy(config, "activations");
  decided.cpu_cache_compute = says_policy(config, "cpu_cache_compute");
  decided.gpu_batch_size = says_batching(config, "gpu_batch_size");
  decided.num_gpu_batches = says_batching(config, "num_gpu_batches");
  decided.micro_batches = says_batching(config, "micro_batches");
  decided.max_tokens = says_batching(config, "max_tokens_per_gpu_batch");
  decided.layers = !config.stages.empty() && config.stages.front().layers > 0;
  return decided;
}

bool leaves_policy_open(const RunConfig& config) {
  return config.stages.empty() && std::ranges::none_of(config.said, [](const std::string& key) {
           return key.starts_with("batching.") || key.starts_with("stages") ||
                  key == "stage_defaults.policy.weights" || key == "stage_defaults.policy.cache" ||
                  key == "stage_defaults.policy.activations" ||
                  key == "stage_defaults.policy.mlp_once" ||
                  key == "stage_defaults.policy.cpu_cache_compute";
         });
}

PlannedJob job_of(const RunConfig& config, const JobScan& scan) {
  PlannedJob job;
  if (config.job.has_dummy_prompts()) {
    const std::int32_t answer =
        config.job.gen_len > 0 ? config.job.gen_len : config.generation.max_new_tokens;
    return PlannedJob::alike(config.job.prompt_len, answer, config.job.num_prompts);
  }
  job.rows = scan.sequences_of(scan.rows - scan.answered);
  job.requests = requests_of(scan, static_cast<std::size_t>(std::clamp<std::int64_t>(
                                       job.rows, 0, PlannedJob::kMostRequests)));
  if (job.requests.empty()) {
    throw ConfigError(
        "a plan needs the lengths of prompts, and the input shows none (it is empty, a pipe, or "
        "all answered); give another file, or --prompt-len and --gen-len");
  }
  job.longest_sequence = std::max(scan.longest_sequence, 1);
  job.usual_sequence = scan.usual_sequence;
  job.most_rule_words = scan.most_rule_words;
  job.grammars = scan.grammars;
  job.features = scan.features;
  return job;
}

PlanRequest plan_request(const RunConfig& config, const OpenedModel& model, const Machine& machine,
                         std::int32_t stages, PlannedJob job) {
  if (std::cmp_greater(stages, model.folder.config.layers)) {
    throw ConfigError(
        fmt::format("--stages: {} stages are more than the model's {} layers; use fewer", stages,
                    model.folder.config.layers));
  }
  PlanRequest request;
  request.model = &model;
  request.made_up_weights = config.weights == WeightsFrom::dummy;
  request.machine = &machine;
  request.stages = config.stages;
  if (request.stages.empty()) {
    request.stages.assign(static_cast<std::size_t>(stages), config.stage_defaults);
  }
  if (request.stages.size() != static_cast<std::size_t>(stages)) {
    throw ConfigError(
        fmt::format("--stages: the configuration has {} stages but {} are asked for; change one",
                    request.stages.size(), stages));
  }
  stage::check_policies(request.stages, model.folder.config);
  request.batching = config.batching;
  request.decided = decided_by(config);
  request.compressions = {request.stages.front().policy.compress_weight};
  request.cache_dtypes = {request.stages.front().policy.cache_dtype};
  request.job = std::move(job);
  if (!config.draft.model.empty() && config.batching.draft_tokens > 0) {
    request.draft = std::make_shared<DraftPaper>(config, kinds_of(machine).front());
  }
  return request;
}

RunConfig with_plan(const RunConfig& config, const Plan& plan) {
  RunConfig planned = config;
  planned.batching = plan.batching;
  planned.stages.clear();
  for (const PlannedStage& stage : plan.stages) planned.stages.push_back(stage.config);
  return planned;
}

std::string command_of(const RunConfig& config, const Plan& plan, const std::string& file) {
  if (!file.empty()) {
    const bool needs_output = !config.job.input.empty() && config.job.output.empty();
    return start_of(plan) + " --config " + quoted(file) +
           (needs_output ? " --output answers.jsonl" : "");
  }
  if (!flags_say(config, plan)) return "";
  const stage::Batching& batching = plan.batching;
  std::string command = start_of(plan) + " --model " + quoted(config.model);
  if (config.weights == WeightsFrom::dummy) command += " --weights dummy";
  for (const std::string& adapter : config.lora) command += " --lora " + quoted(adapter);
  command += job_flags(config) + policy_flags(plan.stages.front().config.policy);
  command += fmt::format(
      " --gpu-batch-size {} --num-gpu-batches {} --micro-batches {} --max-batch-tokens {}",
      batching.gpu_batch_size, batching.num_gpu_batches, batching.micro_batches,
      batching.max_tokens_per_gpu_batch);
  const offload::Budgets& budgets = config.stage_defaults.budgets;
  constexpr const char* kFlags[] = {"--device-memory", "--host-memory", "--disk-memory"};
  for (std::size_t tier = 0; tier < budgets.bytes.size(); ++tier) {
    if (budgets.bytes[tier] > 0)
      command += fmt::format(" {} {}", kFlags[tier], budgets.bytes[tier]);
  }
  return command;
}

}  // namespace sluice::launcher
