// Beside engine_test.cc, which skips where there is no GPU: on the emulation there is one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda_plugin.h"
#include "kernels/engine.h"

namespace sluice {
namespace {

TEST(EmulatedEngine, IsThere) {
  kernels::EngineOptions options;
  options.device = "cuda";
  const kernels::Engine engine = kernels::make_cuda_engine(options);
  EXPECT_THAT(engine.backend->info().description, testing::HasSubstr("emulated GPU"));
}

TEST(EmulatedEngine, RefusesADeviceThatIsNotThere) {
  kernels::EngineOptions options;
  options.device = "cuda:1";
  EXPECT_THROW(kernels::make_cuda_engine(options), kernels::CudaUnavailable);
}

}  // namespace
}  // namespace sluice
