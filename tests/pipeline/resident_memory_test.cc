// What the process really takes, beside the plan: nothing that grows with the number of places may
// stand beside it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device/cpu_backend.h"
#include "stage/sample_rows.h"
#include "stage/workspace.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using offload::Tier;

/// "VmRSS", "VmHWM" of this process.
std::uint64_t process_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind(key + ":", 0) == 0) return std::stoull(line.substr(key.size() + 1)) * 1024;
  }
  ADD_FAILURE() << "no " << key;
  return 0;
}

// 10,240 places of 4,096 tokens: 168 MB of histories.
TEST(ResidentMemory, HistoriesOfAllPlacesStandOnThePlan) {
  stage::StageLayout layout;
  layout.model.hidden = 64;
  layout.model.vocabulary = 1000;
  layout.model.attention.query_heads = layout.model.attention.kv_heads = 1;
  layout.model.attention.head_width = 64;
  layout.model.mlp.width = 64;
  layout.batching.gpu_batch_size = 128;
  layout.batching.num_gpu_batches = 80;
  layout.batching.max_tokens_per_gpu_batch = 128;
  layout.batching.max_sequence_tokens = 4096;
  const stage::WorkspaceBytes bytes = workspace_bytes(layout);
  const std::int32_t slots = layout.batching.slots(layout.stages);
  ASSERT_EQ(slots, 10240);
  EXPECT_EQ(bytes.histories, std::uint64_t{10240} * 4096 * sizeof(std::int32_t));

  CpuBackend backend({}, nullptr);
  const std::uint64_t before = process_bytes("VmRSS");
  offload::Arena device(backend.allocate_device(bytes.device), "device");
  offload::Arena host(backend.allocate_host(bytes.host + bytes.histories, false), "host");
  offload::Arena control(backend.allocate_host(bytes.control, true), "control");
  const stage::Workspace workspace(layout, device, host, control);
  EXPECT_EQ(host.used(), bytes.host + bytes.histories);
  EXPECT_EQ(control.used(), bytes.control);
  stage::Histories histories(workspace.histories, slots, layout.batching.max_sequence_tokens);
  stage::Pass pass;
  pass.rows.resize(1);
  pass.rows[0].new_tokens = layout.batching.max_sequence_tokens;
  pass.tokens.assign(static_cast<std::size_t>(layout.batching.max_sequence_tokens), 7);
  for (pass.rows[0].slot = 0; pass.rows[0].slot < slots; ++pass.rows[0].slot) histories.take(pass);
  const std::uint64_t grown = process_bytes("VmRSS") - before;
  EXPECT_GE(grown, bytes.histories);
  EXPECT_LE(grown,
            bytes.device + bytes.host + bytes.histories + bytes.control + (std::uint64_t{4} << 20));
  EXPECT_EQ(histories.of(slots - 1).size(), 4096U);
  pass.rows[0].slot = 0;
  pass.rows[0].position = 4096;
  EXPECT_THROW(histories.take(pass), CommError) << "a token beyond the longest sequence";
}

/// Requests made as they are asked for; answers counted.
class ManyRows : public stage::Job {
 public:
  explicit ManyRows(std::int32_t rows) : rows_(rows) {}
  stage::Next next(stage::Request& request) override {
    if (given_ == rows_) return stage::Next::no_more;
    request = {};
    request.id = static_cast<std::uint64_t>(given_);
    request.prompt.assign(12, 5 + given_ % 400);
    request.max_tokens = 3;
    ++given_;
    return stage::Next::request;
  }
  void on_prompt_token(std::uint64_t, std::int32_t, const stage::TokenResult&) override {}
  bool on_token(std::uint64_t id, const stage::TokenResult&) override {
    if (made_.size() <= id) made_.resize(static_cast<std::size_t>(rows_), 0);
    if (++made_[id] < 3) return false;
    ++finished;
    return true;
  }
  void on_prompt_done(std::uint64_t) override {}
  void on_failed(std::uint64_t, const std::string&) override { ADD_FAILURE() << "a row failed"; }

  std::int32_t finished = 0;

 private:
  std::int32_t rows_;
  std::int32_t given_ = 0;
  std::vector<std::int8_t> made_;
};

TEST(ResidentMemory, AJobOfManyPlacesStaysWithinItsPlan) {
  support::PipelineOptions options;
  options.batching.gpu_batch_size = 128;
  options.batching.num_gpu_batches = 80;
  options.batching.max_tokens_per_gpu_batch = 128;
  options.batching.max_sequence_tokens = 15;
  const launcher::ModelFolder model =
      launcher::open_model(support::read_reference("opt-pre").folder.string());
  const std::uint64_t before = process_bytes("VmRSS");
  ManyRows job(10240);
  const support::PipelineRun run = support::run_pipeline(model, options, job);
  EXPECT_EQ(job.finished, 10240);
  std::uint64_t planned = 0;
  for (const stage::TierReport& tier : run.stages[0].tiers) planned += tier.planned;
  // Beside the plan: threads' stacks, oneDNN's own buffers, what the files say of themselves.
  EXPECT_LE(process_bytes("VmHWM") - before, planned + (std::uint64_t{8} << 20));
}

}  // namespace
}  // namespace sluice
