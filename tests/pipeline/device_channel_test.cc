// Hidden states that go from device to device: the same tokens, the plan kept, and no rank that
// waits for ever for a message that is lost. On CPU engines with lanes of messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = 3;
  options.batching.num_gpu_batches = 2;  // the last prompts leave one of them without rows
  options.batching.max_tokens_per_gpu_batch = 17;
  options.device_channel = true;
  return options;
}

std::vector<offload::Policy> policies() {
  std::vector<offload::Policy> list = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(30, 40, 50, 20, 50, 50),
      policy_of(30, 40, 50, 20, 50, 30), policy_of(0, 100, 50, 50, 0, 100)};
  list[2].overlap = false;
  list[3].cpu_cache_compute = true;
  return list;
}

struct Outcome {
  support::PipelineRun run;
  std::vector<std::vector<std::int32_t>> tokens;
};

Outcome run_reference(const support::ReferenceCases& cases, const PipelineOptions& options) {
  std::vector<stage::Request> requests;
  for (const support::ReferencePrompt& prompt : cases.prompts) {
    stage::Request& request = requests.emplace_back();
    request.prompt = prompt.prompt;
    request.max_tokens = static_cast<std::int32_t>(prompt.greedy.size());
  }
  ListJob job(requests);
  Outcome outcome;
  outcome.run = support::run_pipeline(launcher::open_model(cases.folder.string()), options, job);
  for (const auto& [index, answer] : job.answers) outcome.tokens.push_back(answer.tokens);
  return outcome;
}

std::uint64_t planned(const stage::StageReport& stage, Tier tier) {
  return stage.tiers[static_cast<std::size_t>(tier)].planned;
}

TEST(DeviceChannelTest, TokensAreHuggingFaces) {
  for (const std::string& name : support::reference_names()) {
    const support::ReferenceCases cases = support::read_reference(name);
    const std::int32_t layers = launcher::open_model(cases.folder.string()).config.layers;
    for (const offload::Policy& policy : policies()) {
      for (std::int32_t stages = 2; stages <= std::min(layers, 4); ++stages) {
        const Outcome outcome = run_reference(cases, options_of(stages, policy));
        for (std::size_t i = 0; i < cases.prompts.size(); ++i) {
          EXPECT_EQ(outcome.tokens[i], cases.prompts[i].greedy) << name << " " << stages;
        }
      }
    }
  }
}

TEST(DeviceChannelTest, PlanIsTheHighWaterMarkAndReceivesAreOnTheDevice) {
  const support::ReferenceCases cases = support::read_reference("opt-deep");
  for (const offload::Policy& policy : policies()) {
    PipelineOptions options = options_of(3, policy);
    const auto device = run_reference(cases, options).run.stages;
    options.device_channel = false;
    const auto host = run_reference(cases, options).run.stages;
    for (std::size_t s = 0; s < device.size(); ++s) {
      for (std::size_t tier = 0; tier < offload::kTierCount; ++tier) {
        EXPECT_EQ(device[s].tiers[tier].high_water, device[s].tiers[tier].planned) << s;
      }
      const std::uint64_t received =
          planned(device[s], Tier::device) - planned(host[s], Tier::device);
      const std::uint64_t staging = planned(host[s], Tier::host) - planned(device[s], Tier::host);
      EXPECT_EQ(received > 0, s > 0) << s;
      // In the middle the host had a buffer for what comes and one for what goes.
      EXPECT_EQ(staging, s == 1 ? 2 * received : s == 2 ? received : staging) << s;
      EXPECT_GT(staging, 0U) << s;
    }
  }
}

TEST(DeviceChannelTest, CountsTheSameBytes) {
  const support::ReferenceCases cases = support::read_reference("opt-deep");
  PipelineOptions options = options_of(3, policies()[0]);
  const auto device = run_reference(cases, options).run.stages;
  options.device_channel = false;
  const auto host = run_reference(cases, options).run.stages;
  // How many passes there are depends on what the head had heard by then; what goes through them
  // does not.
  for (std::size_t s = 0; s < device.size(); ++s) {
    for (const Activity activity : {Activity::send, Activity::receive}) {
      const auto a = static_cast<std::size_t>(activity);
      EXPECT_EQ(device[s].run.totals.bytes[a], host[s].run.totals.bytes[a]) << s;
    }
    EXPECT_EQ(device[s].transport, "nccl");
    EXPECT_EQ(host[s].transport, "mpi");
  }
  EXPECT_GT(device[1].run.totals.bytes[static_cast<std::size_t>(Activity::send)], 0U);
}

TEST(DeviceChannelTest, ALostMessageEndsTheJob) {
  const support::ReferenceCases cases = support::read_reference("opt-deep");
  for (const int lost : {1, 7}) {
    PipelineOptions options = options_of(3, policies()[0]);
    options.lost_message = lost;
    try {
      run_reference(cases, options);
      ADD_FAILURE() << "message " << lost << " was not missed";
    } catch (const CommError& error) {
      EXPECT_THAT(error.what(),
                  testing::HasSubstr("message " + std::to_string(lost) + " was lost"));
    }
  }
}

}  // namespace
}  // namespace sluice
