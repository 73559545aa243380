// A checkpoint as a list of tensors, each an extent of a file. Nothing is loaded here: the extents
// are what the disk tier is made of, and what the loader reads from.
//
// Read are safetensors (one file, or shards with model.safetensors.index.json) and PyTorch's zip
// files (pytorch_model.bin, or shards with pytorch_model.bin.index.json), whose pickle is read by
// an allow-list machine that can build tensors and dictionaries and nothing else. Nothing is
// executed. Of Megatron's folders (layer_NN-model_00-model_states.pt, in the folder or in weights/
// below it) a tensor's name is "layer_NN." and its own. A GGUF file (gguf.h) is a checkpoint, too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"
#include "offload/checkpoint/block_format.h"

namespace sluice::offload {

/// Dense row-major, little-endian. `path_index` names the file in Checkpoint::files().
struct TensorRecord {
  std::string name;  // as in the file
  DType dtype = DType::f32;
  /// Not none: rows lie in blocks, and are widened to rows of `dtype`.
  BlockFormat blocks = BlockFormat::none;
  std::vector<std::int64_t> shape;
  std::int32_t file = 0;
  std::uint64_t offset = 0;  // in the file, bytes
  std::uint64_t bytes = 0;
  /// Why it cannot be a weight ("has the dtype I64; ..."); of a tensor that no model asks for this
  /// harms nothing. Empty: it can.
  std::string problem;
};

class Checkpoint {
 public:
  /// Opens a folder, preferring safetensors, a safetensors file, or a GGUF file, the first of
  /// several. Checks all rules of the formats (extents, overlaps, holes, bytes == shape x dtype).
  /// Of shards, tensors() has what the index says of each. Throws InputError naming
  /// file and offset; memory use is bounded by the size of the headers.
  static Checkpoint open(const std::filesystem::path& path);
  /// Whether open() would find a file to begin with.
  static bool is_in(const std::filesystem::path& path);

  const std::vector<std::filesystem::path>& files() const { return files_; }
  const std::vector<std::uint64_t>& file_bytes() const { return file_bytes_; }
  const std::vector<TensorRecord>& tensors() const { return tensors_; }

  /// Null: absent.
  const TensorRecord* find(const std::string& name) const;
  /// The shard that should have this tensor, by the index, and has not; null: none should.
  const std::string* promised(const std::string& name) const;

  /// Names, dtypes, shapes, extents and file sizes in one hash: ranks compare it in the handshake.
  std::uint64_t digest() const;

 private:
  friend class CheckpointBuilder;
  std::vector<std::filesystem::path> files_;
  std::vector<std::uint64_t> file_bytes_;
  std::vector<TensorRecord> tensors_;            // sorted by name
  std::map<std::string, std::string> promised_;  // tensors to shards
};

/// Tensors of one file; throw InputError. `file` is written into the records.
std::vector<TensorRecord> read_safetensors(const std::filesystem::path& path, std::int32_t file);
std::vector<TensorRecord> read_torch_zip(const std::filesystem::path& path, std::int32_t file);

}  // namespace sluice::offload
