// A file of packed tensors: quantised matrices and the small dense tensors that are needed with
// them, kept from one run to the next. Little-endian:
//
//   header   text that says what the file is made of, zeros to a whole block
//   tensors  in order, each at a multiple of 64 bytes as in a staging buffer, zeros to a whole
//   block footer   a 32-bit sum of each 4096-byte block before it, then a 64-bit sum of those
//
// Sums are XXH3. Header, order and sizes follow from what is packed, so that nothing in a file is
// ever parsed: a file is what it must be, or it is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"

namespace sluice::offload {

constexpr std::uint64_t kPackedBlock = 4096;
/// Of what is written and of how elements are quantised: a change of either makes other files.
constexpr int kPackedFormat = 1;

struct PackedTensor {
  std::string name;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::uint64_t offset = 0;  // in the file, set by PackedLayout

  std::uint64_t bytes() const {
    return static_cast<std::uint64_t>(rows) * row_bytes_of(dtype, columns);
  }
};

/// Where everything lies in a packed file.
class PackedLayout {
 public:
  /// `origin` names the content that the tensors were packed from, and the settings.
  PackedLayout(const std::string& origin, std::vector<PackedTensor> tensors);

  const std::vector<PackedTensor>& tensors() const { return tensors_; }
  const std::string& header() const { return header_; }  // whole blocks
  std::uint64_t blocks() const { return blocks_; }       // with a sum each
  std::uint64_t file_bytes() const;

 private:
  std::vector<PackedTensor> tensors_;
  std::string header_;
  std::uint64_t blocks_ = 0;
};

/// Opens a packed file, checks all of it but the tensors' bytes, and returns the sums of its
/// blocks. Throws InputError naming file and offset where it is not what `layout` says: cut short,
/// damaged, or somebody else's. It is not packed anew unasked, since nobody knows whose it is.
std::vector<std::uint32_t> read_packed_sums(const std::filesystem::path& path,
                                            const PackedLayout& layout);

/// Writes a packed file under a temporary name, which becomes its own when all of it is on the
/// disk. One thread.
class PackedWriter {
 public:
  /// Reserves the whole file. Throws CapacityError naming the folder, the bytes wanted and those
  /// free, or IoError.
  PackedWriter(std::filesystem::path path, const PackedLayout& layout);
  ~PackedWriter();  // without commit(): nothing was written
  PackedWriter(const PackedWriter&) = delete;
  PackedWriter& operator=(const PackedWriter&) = delete;

  /// The next bytes of the next tensor, in the layout's order; no piece spans two tensors.
  void append(const std::byte* data, std::size_t bytes);
  /// After the last byte. A file that somebody else put there meanwhile is replaced by its equal.
  void commit();

 private:
  void put(const std::byte* data, std::size_t bytes);
  void put_zeros(std::uint64_t end);
  void flush();
  void write(const void* data, std::size_t bytes);
  [[noreturn]] void fail(const char* what, int error) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  const PackedLayout& layout_;
  int descriptor_ = -1;
  std::size_t tensor_ = 0;      // that is being written
  std::uint64_t position_ = 0;  // in the file, of the next byte put
  std::uint64_t written_ = 0;   // bytes handed to the system
  std::vector<std::byte> waiting_;
  std::vector<std::uint32_t> sums_;
};

/// Takes away what killed packers left in `folder`. Temporaries of living ones are locked and stay.
void remove_dead_temporaries(const std::filesystem::path& folder);

}  // namespace sluice::offload
