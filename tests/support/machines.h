// A machine with every figure known, for tests: a GPU of 16 GiB behind PCIe 3 in round numbers.
#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <string>

#include "kernels/device/error.h"
#include "launcher/planner/machine.h"

namespace sluice::support {

inline launcher::Machine paper_machine() {
  using launcher::Figure;
  const auto figure = [](double value) { return Figure{value, 0.01, "2026-11-30", "a test's"}; };
  launcher::Machine machine;
  machine.name = "test";
  machine.date = "2026-11-30";
  machine.device.name = "a GPU";
  machine.device.kind = "cuda";
  machine.device.memory = std::uint64_t{16} << 30;
  machine.device.compute_dtype = DType::f16;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    const double bytes = static_cast<double>(row_bytes_of(dtype, 64)) / 64;
    const double one = 300e9 / bytes * 2;  // bound by the reading of the weights
    machine.device.products[dtype].points = {{1, figure(one)}, {64, figure(20e12)}};
    machine.device.decode_attention[dtype] = figure(200e9);
    machine.device.prefill_attention[dtype] = figure(5e12);
    machine.host.decode_attention[dtype] = figure(20e9);
    machine.host.prefill_attention[dtype] = figure(100e9);
  }
  machine.device.memory_read = figure(300e9);
  machine.device.task_seconds = figure(20e-6);
  machine.device.operation_seconds = figure(5e-6);
  machine.host.memory = std::uint64_t{208} << 30;
  machine.host.cores = 24;
  machine.host.memory_read = figure(60e9);
  machine.host.memory_copy = figure(30e9);
  machine.host_to_device = {figure(12e9), figure(9e9), figure(0.95), figure(5e9)};
  machine.device_to_host = {figure(12e9), figure(9e9), figure(0.95), figure(5e9)};
  machine.disk.folder = "/scratch";
  machine.disk.read.points = {{65536, figure(0.5e9)}, {1 << 20, figure(2e9)}};
  machine.disk.write.points = {{65536, figure(0.3e9)}, {1 << 20, figure(1e9)}};
  machine.disk.product_share = figure(0.9);
  machine.disk.free_bytes = std::uint64_t{1} << 40;
  return machine;
}

/// The sentence of the ConfigError that `call` throws; anything else fails the test.
template <typename Call>
std::string config_refusal(const Call& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not a ConfigError: " << error.what();
    return {};
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

}  // namespace sluice::support
