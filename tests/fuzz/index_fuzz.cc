// An index of shards of any bytes, beside two shards: refused, or every tensor that it names is
// found in the shard that it names, or is promised and lacking. Nothing else is found.
#include <fstream>
#include <string>

#include "launcher/json/json.h"
#include "offload/checkpoint/checkpoint.h"
#include "tests/fuzz/refusal.h"
#include "tests/support/scratch_folder.h"

namespace {

namespace fuzz = sluice::fuzz;
using sluice::launcher::Json;
using sluice::offload::Checkpoint;

void write(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

/// A safetensors file of tensors of one byte each.
std::string shard_of(std::initializer_list<const char*> names) {
  Json header = Json::object();
  for (const char* name : names) {
    const std::size_t at = header.size();
    header[name] = {{"dtype", "F16"},
                    {"shape", Json::array({1})},
                    {"data_offsets", Json::array({2 * at, 2 * at + 2})}};
  }
  const std::string text = header.dump();
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return file + text + std::string(2 * header.size(), 'w');
}

class Folder {
 public:
  Folder() {
    write(scratch_.path() / "a", shard_of({"x", "y", "both"}));
    write(scratch_.path() / "b", shard_of({"z", "both"}));
  }
  const std::filesystem::path& path() const { return scratch_.path(); }

 private:
  sluice::support::ScratchFolder scratch_;
};

void check(const Checkpoint& checkpoint, const Json& weight_map) {
  std::size_t found = 0;
  for (const auto& [name, shard] : weight_map.items()) {
    const auto* tensor = checkpoint.find(name);
    const std::string* promised = checkpoint.promised(name);
    fuzz::require((tensor == nullptr) != (promised == nullptr), "a tensor is neither or both");
    if (promised != nullptr) {
      fuzz::require(*promised == shard.text(), "another shard is promised");
      continue;
    }
    ++found;
    const auto file = static_cast<std::size_t>(tensor->file);
    fuzz::require(checkpoint.files().at(file).filename() == shard.text(), "found in another shard");
  }
  fuzz::require(checkpoint.tensors().size() == found, "there are tensors that the index lacks");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  write(folder.path() / "model.safetensors.index.json", text);
  Checkpoint checkpoint;
  const bool good = fuzz::accepts(sluice::ExitStatus::bad_input,
                                  [&] { checkpoint = Checkpoint::open(folder.path()); });
  if (good) check(checkpoint, Json::parse(text).at("weight_map"));
  return 0;
}
