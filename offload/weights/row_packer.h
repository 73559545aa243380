// Quantises whole matrices in bounded memory: rows are read in pieces, one piece while the one
// before it is quantised by several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "offload/weights/weight_source.h"

namespace sluice::offload {

class RowPacker {
 public:
  /// Takes what a source has of a tensor, in order.
  using Sink = std::function<void(const std::byte* data, std::size_t bytes)>;

  /// `source` must outlive it. Memory: two pieces of 8 MiB (or a row, where that is longer) and
  /// what one becomes.
  RowPacker(WeightSource& source, int threads);

  /// All rows of `dense`, which is a tensor of the source, as `to`; `to` equal to its dtype copies.
  /// Throws IoError, and InputError naming `name` where an element cannot be quantised.
  void pack(const std::string& name, const WeightInfo& dense, DType to, const Sink& sink);

 private:
  struct Piece {
    std::vector<std::byte> data;
    IoGroup reads;
  };

  void quantize(const std::string& name, const WeightInfo& dense, DType to, std::int64_t first,
                std::int64_t count, const std::byte* rows);

  WeightSource& source_;
  std::int64_t threads_;
  std::vector<std::byte> packed_;
  Piece pieces_[2];  // last: reads into them end before anything else goes
};

}  // namespace sluice::offload
