// A file of packed weights with some bytes changed, cut off or added: refused, or only tensors'
// bytes were changed, and the sum of every such block tells.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "offload/disk/disk_engine.h"
#include "offload/weights/packed_file.h"
#include "tests/fuzz/memory_file.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace offload = sluice::offload;
using offload::kPackedBlock;
using offload::PackedLayout;
using sluice::DType;

struct Packed {
  explicit Packed(unsigned form)
      : layout("fuzz", {{"matrix", form % 2 == 0 ? DType::q4 : DType::q8, 1 + form, 100},
                        {"bias", DType::f16, 1, 3 + 700 * std::int64_t{form / 2}}}) {
    const sluice::support::ScratchFolder scratch;
    offload::PackedWriter writer(scratch.path() / "packed", layout);
    for (const offload::PackedTensor& tensor : layout.tensors()) {
      const std::string content(tensor.bytes(), static_cast<char>('a' + form));
      writer.append(reinterpret_cast<const std::byte*>(content.data()), content.size());
    }
    writer.commit();
    file = sluice::support::read_file(scratch.path() / "packed");
  }

  PackedLayout layout;
  std::string file;
};

const Packed& packed(unsigned form) {
  static std::map<unsigned, Packed> made;
  const auto found = made.find(form);
  return found != made.end() ? found->second : made.emplace(form, form).first->second;
}

/// Triples of bytes: a place of 16 bits, and what is changed there. The last one or two cut the
/// file, or add to it.
std::string damaged(std::string file, const std::uint8_t* data, std::size_t size) {
  for (; size >= 3; data += 3, size -= 3) {
    const std::size_t at = data[0] | static_cast<std::size_t>(data[1]) << 8;
    file[at % file.size()] = static_cast<char>(file[at % file.size()] ^ data[2]);
  }
  if (size == 1) file.resize(file.size() - std::min<std::size_t>(data[0], file.size()));
  if (size == 2) file.append(data[0], static_cast<char>(data[1]));
  return file;
}

bool is_same_block(const std::string& one, const std::string& other, std::size_t block) {
  return one.compare(block * kPackedBlock, kPackedBlock, other, block * kPackedBlock,
                     kPackedBlock) == 0;
}

void check(const Packed& good, const std::string& file, const std::vector<std::uint32_t>& sums) {
  const PackedLayout& layout = good.layout;
  fuzz::require(file.size() == good.file.size(), "a file of another size is taken");
  fuzz::require(sums.size() == layout.blocks(), "a block has no sum");
  const std::size_t header = layout.header().size();
  const std::size_t footer = layout.blocks() * kPackedBlock;
  fuzz::require(file.compare(0, header, good.file, 0, header) == 0 &&
                    file.compare(footer, std::string::npos, good.file, footer) == 0,
                "a changed header or footer is taken");
  for (std::size_t block = 0; block < sums.size(); ++block) {
    const auto bytes = std::as_bytes(std::span(file).subspan(block * kPackedBlock, kPackedBlock));
    fuzz::require(
        (offload::block_sum(bytes) == sums[block]) == is_same_block(file, good.file, block),
        "the sum of a block does not tell whether it was changed");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Packed& good = packed(data[0] % 8U);
  const std::string file = damaged(good.file, data + 1, size - 1);
  const fuzz::MemoryFile memory(file.data(), file.size());
  std::vector<std::uint32_t> sums;
  const bool taken = fuzz::accepts(sluice::ExitStatus::bad_input, [&] {
    sums = offload::read_packed_sums(memory.path(), good.layout);
  });
  if (taken) check(good, file, sums);
  return 0;
}
