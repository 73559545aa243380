// A safetensors file of any bytes: refused, or its tensors lie one behind the other up to the end
// of the file, and are the same when they are written to another file.
#include <string>
#include <vector>

#include "launcher/json/json.h"
#include "offload/checkpoint/checkpoint.h"
#include "tests/fuzz/memory_file.h"

namespace {

namespace fuzz = sluice::fuzz;
using sluice::launcher::Json;
using sluice::offload::TensorRecord;
using Records = std::vector<TensorRecord>;

std::string type_name(const TensorRecord& record) {
  if (record.dtype == sluice::DType::f32) return "F32";
  return record.dtype == sluice::DType::f16 ? "F16" : "BF16";
}

void check_extents(const Records& records, std::size_t size) {
  std::uint64_t end = records.empty() ? size : records.front().offset;
  for (const TensorRecord& record : records) {
    fuzz::require(record.offset == end, "there is a hole before a tensor, or an overlap");
    end += record.bytes;
    if (!record.problem.empty()) continue;
    std::uint64_t elements = 1;
    for (const std::int64_t extent : record.shape) elements *= static_cast<std::uint64_t>(extent);
    fuzz::require(elements * size_of(record.dtype) == record.bytes, "a shape has other bytes");
  }
  fuzz::require(end == size, "the tensors do not end with the file");
}

/// A tensor that cannot be a weight becomes one of as many bytes, which cannot be one either.
std::string written(const Records& records) {
  Json header = Json::object();
  std::uint64_t begin = 0;
  for (const TensorRecord& record : records) {
    Json& entry = header[record.name];
    const bool is_weight = record.problem.empty();
    entry["dtype"] = is_weight ? type_name(record) : "U8";
    entry["shape"] = is_weight ? Json(record.shape) : Json::array({Json(record.bytes)});
    entry["data_offsets"] = Json::array({Json(begin), Json(begin + record.bytes)});
    begin += record.bytes;
  }
  const std::string text = header.dump();
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return file + text + std::string(begin, 'w');
}

void check_alike(const Records& records, const Records& again) {
  fuzz::require(records.size() == again.size(), "a tensor was lost when written again");
  for (std::size_t i = 0; i < records.size(); ++i) {
    const TensorRecord& one = records[i];
    const TensorRecord& other = again[i];
    fuzz::require(one.bytes == other.bytes && one.problem.empty() == other.problem.empty(),
                  "a tensor is another when written again");
    if (!one.problem.empty()) continue;
    fuzz::require(one.dtype == other.dtype && one.shape == other.shape,
                  "a tensor has another form when written again");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::MemoryFile file(data, size);
  Records records;
  const bool read = fuzz::accepts(sluice::ExitStatus::bad_input, [&] {
    records = sluice::offload::read_safetensors(file.path(), 0);
  });
  if (!read) return 0;
  check_extents(records, size);
  const std::string text = written(records);
  const fuzz::MemoryFile copy(text.data(), text.size());
  check_alike(records, sluice::offload::read_safetensors(copy.path(), 0));
  return 0;
}
