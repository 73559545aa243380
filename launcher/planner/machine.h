// What a machine can do, in figures: `sluice calibrate` measures them and writes machine.yaml, the
// cost model prices tasks with them. Plain data. A machine that exists on paper only has the same
// form, with the source of each figure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"

namespace sluice::launcher {

/// A measured or published number. Bytes, FLOP (a multiplication and its addition: 2) and seconds.
struct Figure {
  double value = 0;   // 0: not known
  double spread = 0;  // half of the range between the quartiles, over the median
  std::string date;   // "2026-11-30", when it was measured or published
  std::string how;    // "matrices of 64 MiB", or where a figure on paper comes from

  bool known() const { return value > 0; }
};

/// A rate that depends on a size: between points a straight line in the logarithms of both (so that
/// what is bound by bytes needs two points only), beyond them that of the nearest point.
struct RateCurve {
  struct Point {
    double size = 0;
    Figure rate;
  };
  std::vector<Point> points;  // by increasing size

  /// 0: there are no points.
  double at(double size) const;
};

/// A copy's rate depends on what else runs: on PCIe and in shared memory a product beside it costs
/// a quarter and more.
struct LinkRates {
  Figure alone;      // bytes per second
  Figure computing;  // ... while the device computes
  /// What is left of a product's rate while the link copies, 0 to 1.
  Figure product_share;
  /// Of memory that is not pinned (Policy::pin_weight): Backend::allocate_host(bytes, false),
  /// alone. Not known: as `alone`, which is true of a CPU.
  Figure pageable;
};

/// What computes a stage: one GPU, or the cores of a CPU stage.
struct DeviceRates {
  std::string name;                           // "Tesla T4"
  std::string kind;                           // "cpu", "cuda"
  std::int32_t threads = 0;                   // that a CPU's rates are of; 0: of a GPU
  std::uint64_t memory = 0;                   // bytes; of a CPU: the host's
  DType compute_dtype = DType::f32;           // of activations
  std::map<DType, RateCurve> products;        // by storage of the weights: FLOP/s over rows
  std::map<DType, Figure> decode_attention;   // by cache: bytes of KV per second, one new token
  std::map<DType, Figure> prefill_attention;  // by cache: FLOP/s, hundreds of new tokens
  Figure memory_read;                         // bytes per second
  Figure task_seconds;       // of a task that has nothing to do and waits for another lane's
  Figure operation_seconds;  // of one operation of a task (kernels/ops.h) that has nothing to do
};

/// Of one host. Its ranks share its memory, its disk and, where `shares_link`, its link.
struct HostRates {
  std::uint64_t memory = 0;
  std::int32_t cores = 1;
  std::map<DType, Figure> decode_attention;  // beside the device, all cores: bytes of KV per second
  std::map<DType, Figure> prefill_attention;
  Figure memory_read;
  Figure memory_copy;  // by one thread: bytes copied, each read and written
};

struct DiskRates {
  std::string folder;  // where it was measured; empty: on paper
  RateCurve read;      // bytes per second over bytes of a request, queue deep, past the page cache
  RateCurve write;
  /// What is left of the rate of a product of 64 rows, with all threads of a CPU stage, while the
  /// disk reads as fast as it can, 0 to 1. Not known: all of it, which is true of a GPU.
  Figure product_share;
  std::uint64_t free_bytes = 0;  // 0: not known
};

/// Between two ranks.
struct NetworkRates {
  Figure bandwidth;  // bytes per second, one way
  Figure latency;    // seconds
};

/// Devices of a host that are of another kind than Machine::device.
struct OtherDevices {
  std::int32_t first = 1;  // of a host's devices, from 0; as far as the next kind's first
  DeviceRates device;
  LinkRates host_to_device, device_to_host;
};

struct Machine {
  std::string name;
  std::string date;       // "2026-11-30", of the newest figure
  bool on_paper = false;  // figures come from data sheets and papers
  std::int32_t hosts = 1;
  std::int32_t devices = 1;  // per host
  bool shares_link = false;  // the devices of a host share its root complex: the rate is for all
  DeviceRates device;
  HostRates host;
  LinkRates host_to_device, device_to_host;
  DiskRates disk;
  NetworkRates within_host, between_hosts;
  std::vector<OtherDevices> other_devices;  // by `first`; empty: all are alike
};

/// Of a host's device: 0 for Machine::device, 1 for the first of other_devices, and so on. Devices
/// beyond the last are like the last.
std::size_t kind_of(const Machine& machine, std::int32_t device);
/// By kind: the machine as it would be if all its devices were of that kind.
std::vector<Machine> kinds_of(const Machine& machine);

}  // namespace sluice::launcher
