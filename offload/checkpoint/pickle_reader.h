// Reads the pickle of a PyTorch state dict (protocol 2, as torch.save writes it) without executing
// anything: a machine that can build numbers, strings, tuples, lists, dictionaries, storages and
// tensors, and refuses every other opcode and every other global by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/dtype.h"

namespace sluice::offload {

/// A real model's is some 200 kB.
constexpr std::uint64_t kMaxPickleBytes = 8U << 20U;

/// One torch.<X>Storage as a persistent id names it; its bytes are the archive's member data/<key>.
struct PickledStorage {
  std::string_view type;       // "HalfStorage"; static
  std::optional<DType> dtype;  // none: a type that no model here is made of
  std::uint64_t element_bytes = 0;
  std::string key;
  std::uint64_t elements = 0;
};

/// One tensor of the state dict; offset and strides count elements of the storage.
struct PickledTensor {
  std::string name;
  PickledStorage storage;
  std::uint64_t offset = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // as many as shape; all >= 0
};

/// The tensors of the dictionary that `pickle` holds, in its order; entries that are no tensors are
/// left out unless their name is a model tensor's (Checkpoint). `where` names the file in errors.
/// Throws InputError naming the offset in the pickle. Opcodes, memo, stack, string lengths and the
/// pickle itself are capped, so that memory stays below some 300 MB whatever the input is.
std::vector<PickledTensor> read_state_dict(std::string_view pickle, const std::string& where);

}  // namespace sluice::offload
