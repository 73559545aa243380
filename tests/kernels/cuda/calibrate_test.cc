// sluice calibrate on an emulated GPU, in small: each figure of a device with memory of its own is
// measured. What an emulated GPU reaches says nothing of any GPU.
#include <gtest/gtest.h>

#include "kernels/engine.h"
#include "launcher/calibrate/measure_machine.h"
#include "launcher/planner/machine_file.h"
#include "tests/support/calibration_sizes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

TEST(CalibrateGpu, EveryFigureOfAGpuIsMeasured) {
  kernels::EngineOptions options;
  options.device = "cuda";
  options.threads = 1;
  options.weight_dtype = DType::f16;
  kernels::Engine engine = kernels::make_engine(options);
  std::uint64_t figures = 0;
  Sampler sampler(support::small_calibration(), "2026-11-30", [&] { ++figures; });
  const support::ScratchFolder folder;
  Machine machine = measure_machine(engine, folder.path(), sampler);
  EXPECT_EQ(figures, figures_to_measure(engine, support::small_calibration()));
  machine.name = "emulated";
  EXPECT_EQ(machine.device.kind, "cuda");
  EXPECT_EQ(machine.device.threads, 0);
  EXPECT_EQ(machine.device.compute_dtype, DType::f16);
  EXPECT_EQ(machine.device.memory, engine.backend->info().device_bytes);
  EXPECT_TRUE(machine.host_to_device.pageable.known());
  EXPECT_FALSE(machine.disk.product_share.known());
  EXPECT_NO_THROW(read_machine_text(to_yaml(machine), "emulated"));  // whole
}

}  // namespace
}  // namespace sluice::launcher
