// Sampling by the CUDA engine, of a GPU where there is one, else skipped.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cuda_plugin.h"
#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/sample_cases.h"

namespace sluice {
namespace {

using namespace sample_test;
using kernels::SampledRow;

class SampleOnDevice : public testing::Test {
 protected:
  void SetUp() override {
    try {
      engine_ = kernels::make_cuda_engine({.device = "cuda"});
    } catch (const kernels::CudaUnavailable& unavailable) {
      GTEST_SKIP() << unavailable.reason;
    }
  }

  Memory on_device(const void* bytes, std::size_t count) {
    Memory memory = engine_.backend->allocate_device(count);
    engine_.backend->copy(Lane::compute, memory.data(), bytes, count);
    return memory;
  }
  template <class Element>
  Memory on_device(const std::vector<Element>& values) {
    return on_device(values.data(), values.size() * sizeof(Element));
  }

  std::vector<SampledRow> sampled(const std::vector<Asked>& asked) {
    Backend& backend = *engine_.backend;
    const SampleInput input(asked);
    const Memory logits = on_device(input.logits);
    const Memory edits = on_device(input.edits);
    const Memory masks = on_device(input.masks);
    const Memory rows = on_device(input.rows);
    std::vector<SampledRow> results(asked.size());
    const Memory out = on_device(results);
    engine_.device_ops->sample(reinterpret_cast<SampledRow*>(out.data()),
                               {logits.data(), DType::f32, static_cast<std::int64_t>(asked.size()),
                                static_cast<std::int64_t>(asked[0].logits.size())},
                               reinterpret_cast<const kernels::SampleRow*>(rows.data()),
                               {reinterpret_cast<const kernels::TokenEdit*>(edits.data()),
                                reinterpret_cast<const std::uint32_t*>(masks.data())});
    backend.wait(Lane::device_to_host, backend.record(Lane::compute));
    backend.copy(Lane::device_to_host, results.data(), out.data(), out.bytes());
    backend.synchronize(backend.record(Lane::device_to_host));
    return results;
  }

  kernels::Engine engine_;
};

TEST_F(SampleOnDevice, IsWhatTheHostSamplerSays) {
  EXPECT_TRUE(engine_.backend->info().samples);
  Counts counts;
  unsigned seed = 50;
  for (const std::int32_t vocabulary : {33, 1025, 3001}) {
    RandomRows random(vocabulary, ++seed);
    std::vector<Asked> asked;
    for (int i = 0; i < 12; ++i) asked.push_back(random.next());
    const std::vector<SampledRow> results = sampled(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      expect_as_on_the_host(asked[i], results[i], counts);
    }
  }
  EXPECT_GT(counts.certain, 10);
}

// More rows than the engine has scratch for at a time.
TEST_F(SampleOnDevice, RowsWithPenaltiesGoInPieces) {
  std::vector<Asked> asked;
  for (int i = 0; i < 10; ++i) {
    Asked& one = asked.emplace_back();
    one.logits.assign(std::size_t{1} << 19, -1.0F);
    one.logits[static_cast<std::size_t>(1000 + i)] = 3.0F;
    one.logits[static_cast<std::size_t>(2000 + i)] = 2.0F;
    one.sampling.repetition_penalty = 2.0F;
    one.history = {1000 + i};
  }
  const std::vector<SampledRow> results = sampled(asked);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)].token, 2000 + i);
}

TEST_F(SampleOnDevice, RefusesLogitsThatCannotBe) {
  float one = 0;
  SampledRow out;
  EXPECT_THROW(engine_.device_ops->sample(&out, {&one, DType::f16, 1, 1}, nullptr, {}),
               DeviceError);
  EXPECT_THROW(engine_.device_ops->sample(&out, {&one, DType::f32, 1, (1 << 19) + 1}, nullptr, {}),
               DeviceError);
}

}  // namespace
}  // namespace sluice
