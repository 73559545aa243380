// A file as torch.save writes it, of any bytes: refused, or every tensor lies in the file, and is
// the same when it is saved again.
#include <string>
#include <vector>

#include "offload/checkpoint/checkpoint.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/saved_tensors.h"

namespace {

namespace fuzz = sluice::fuzz;
using sluice::offload::TensorRecord;
using Records = std::vector<TensorRecord>;

std::uint64_t checked_elements(const TensorRecord& record, std::size_t size) {
  std::uint64_t elements = 1;
  for (const std::int64_t extent : record.shape) elements *= static_cast<std::uint64_t>(extent);
  fuzz::require(record.offset <= size && record.bytes <= size - record.offset,
                "a tensor lies outside the file");
  fuzz::require(elements * size_of(record.dtype) == record.bytes, "a shape has other bytes");
  return elements;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::MemoryFile file(data, size);
  Records records;
  const bool read = fuzz::accepts(sluice::ExitStatus::bad_input, [&] {
    records = sluice::offload::read_torch_zip(file.path(), 0);
  });
  if (!read) return 0;
  std::erase_if(records, [](const TensorRecord& record) { return !record.problem.empty(); });
  std::vector<fuzz::SavedTensor> saved;
  for (const TensorRecord& record : records) {
    saved.push_back({record.name, record.dtype, record.shape, checked_elements(record, size)});
  }
  const std::string text = fuzz::saved_again(saved);
  const fuzz::MemoryFile copy(text.data(), text.size());
  const Records again = sluice::offload::read_torch_zip(copy.path(), 0);
  fuzz::require(records.size() == again.size(), "a tensor was lost when saved again");
  for (std::size_t i = 0; i < records.size(); ++i) {
    const TensorRecord& one = records[i];
    const TensorRecord& other = again[i];
    fuzz::require(one.name == other.name && one.dtype == other.dtype && one.shape == other.shape &&
                      one.bytes == other.bytes && other.problem.empty(),
                  "a tensor is another when saved again");
  }
  return 0;
}
