#include "offload/checkpoint/weight_sample.h"

#include <algorithm>
#include <numeric>

#include "offload/checkpoint/digest.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::offload {

std::uint64_t sample_of(const Checkpoint& checkpoint) {
  constexpr std::uint64_t kPieces = 64;
  constexpr std::uint64_t kPieceBytes = 1024;
  const std::vector<std::uint64_t>& sizes = checkpoint.file_bytes();
  const std::uint64_t total = std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0});
  Digest digest;
  std::uint64_t piece = 0;
  std::uint64_t before = 0;  // bytes of the files before
  for (std::size_t f = 0; f < sizes.size(); ++f) {
    const InputFile file(checkpoint.files()[f]);
    for (; piece < kPieces; ++piece) {
      const std::uint64_t at = total / kPieces * piece + total / kPieces / 2;
      if (at >= before + sizes[f]) break;
      const std::uint64_t offset = at - before;
      digest.add(file.read(offset, std::min(kPieceBytes, sizes[f] - offset)));
    }
    before += sizes[f];
  }
  return digest.value();
}

}  // namespace sluice::offload
