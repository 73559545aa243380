// A GGUF file of any bytes: refused with an InputError, or read within the bounds that libFuzzer is
// given for time and memory: its header, its blocks, and its vocabulary with a text.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/tokenizer/gguf_vocabulary.h"
#include "offload/checkpoint/block_format.h"
#include "offload/checkpoint/gguf_file.h"
#include "offload/checkpoint/input_file.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/tokenizer_check.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace offload = sluice::offload;

void widen_all(const offload::GgufFile& file, const std::filesystem::path& path) {
  for (const offload::TensorRecord& record : file.tensors()) {
    if (record.blocks == offload::BlockFormat::none) continue;
    const std::string blocks = offload::InputFile(path).read(record.offset, record.bytes);
    const std::size_t count = blocks.size() / offload::block_bytes(record.blocks);
    std::vector<float> values(count *
                              static_cast<std::size_t>(offload::block_elements(record.blocks)));
    offload::widen_blocks(record.blocks, reinterpret_cast<const std::byte*>(blocks.data()),
                          static_cast<std::int64_t>(count), values.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::MemoryFile memory(data, size);
  try {
    widen_all(offload::GgufFile(memory.path()), memory.path());
    const sluice::launcher::Tokenizer tokenizer(
        sluice::launcher::read_gguf_vocabulary(memory.path()));
    const std::string_view all(reinterpret_cast<const char*>(data), size);
    const std::string end(all.substr(size - std::min<std::size_t>(size, 100)));
    fuzz::check_tokenizer(tokenizer, "It's  the ab<e>\n 12 \u00E9\u4E2D\u0301, " + end);
  } catch (const sluice::InputError&) {
    // one sentence, as a user would see it
  }
  return 0;
}
