// New rows on their way between the device and host memory. Two sets of host rows take turns. Their
// rows have the numbers of the GPU batch's rows, so that host kernels use the same row numbers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {

class KvRowStaging {
 public:
  struct Set {
    TensorView keys;  // [tokens, kv_heads x head_dim], as are values
    TensorView values;
    TensorView query;  // [tokens, query_heads x head_dim], as is out; only where the host attends
    TensorView out;
    Event free;  // on Lane::host_compute: the last work on the set
  };

  KvRowStaging(Backend& backend, const KvLayout& layout, const KvMemory& memory);

  /// The next set, whose rows Lane::device_to_host may overwrite from here on, once `ready`.
  Set& next(Event ready);
  /// Puts the copies of `rows` on Lane::device_to_host.
  void bring(TensorView target, TensorView source, const std::vector<KvRows>& rows);
  /// Makes Lane::host_compute wait for what was brought; returns when it is there.
  Event hand_over();
  /// Puts the copies of `rows` to the device on Lane::compute, which needs them next anyway:
  /// on Lane::host_to_device, weights would stand behind a wait for the CPU's attention.
  void take_back(TensorView target, TensorView source, const std::vector<KvRows>& rows);

 private:
  Backend& backend_;
  std::array<Set, 2> sets_;
  std::size_t next_ = 0;
};

}  // namespace sluice::offload
