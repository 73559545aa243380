// Which bytes of a checkpoint are which weight of ours. A model's family says under which name its
// checkpoints store a weight; several weights may be rows of one stored tensor, and are read where
// they lie.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "offload/checkpoint/checkpoint.h"
#include "offload/weights/weight_spec.h"

namespace sluice::offload {

class InputFile;

/// Rows of a stored matrix, or elements of a stored vector: pieces of equal size at equal
/// distances. Matrices that are stored together, as a tensor of three dimensions, are one matrix of
/// all their rows.
struct RowRange {
  std::int64_t first = 0;  // row of the first piece
  std::int64_t piece = 0;  // rows of each; 0: the whole tensor
  std::int64_t step = 0;   // from the first row of a piece to that of the next; 0: one piece
  /// Of a matrix that is stored by columns: which row of what is stored is its first input.
  std::int64_t first_input = 0;

  auto operator<=>(const RowRange&) const = default;
};

struct StoredName {
  std::string tensor;  // as the checkpoint names it
  RowRange rows;
  bool transposed = false;  // a matrix stored by columns: `rows` are columns of what is stored
  std::int64_t inputs = 0;  // ... how many rows of it, from rows.first_input on; 0: all
};

/// By our names. A name that is not in it is the stored name of a whole tensor.
using StoredNames = std::map<std::string, StoredName>;

/// A weight that was found: its rows are `rows.piece` at a time, row_bytes each.
struct StoredWeight {
  const TensorRecord* record = nullptr;
  RowRange rows;                // piece >= 1
  std::uint64_t row_bytes = 0;  // of a row as it is read, not as it is stored
  bool transposed = false;
  std::int64_t inputs = 0;  // of a transposed one, from rows.first_input on

  /// The file has no row as it is wanted: read_relaid() makes them.
  bool relaid() const { return transposed || record->blocks != BlockFormat::none; }
  // Of weights that are not relaid:
  /// In the file, of byte `offset` of the weight.
  std::uint64_t position(std::uint64_t offset) const;
  /// Bytes from byte `offset` of the weight to the end of its piece.
  std::uint64_t left_in_piece(std::uint64_t offset) const;
};

/// Throws InputError if the checkpoint has no such tensor, one of another shape, or one that cannot
/// be read; names both shapes. The checkpoint must outlive the result.
StoredWeight find_weight(const Checkpoint& checkpoint, const StoredNames& names,
                         const WeightSpec& spec);

/// Makes rows [first, first + count) of a relaid weight: gathers them from the stored columns, or
/// widens their blocks. `file` is the record's. Throws IoError.
void read_relaid(const StoredWeight& weight, const InputFile& file, std::int64_t first,
                 std::int64_t count, std::byte* target);

/// Whether two stored tensors are one: the same extent, or dtype, shape and every byte alike.
bool same_content(const Checkpoint& checkpoint, const TensorRecord& a, const TensorRecord& b);

}  // namespace sluice::offload
