// A config.json and a generation_config.json of any bytes: refused, or a model whose sizes can be,
// and the same when both are printed and read again.
#include <fstream>
#include <string>

#include "launcher/json/json.h"
#include "launcher/model/model_folder.h"
#include "stage/weight_groups.h"
#include "tests/fuzz/halves.h"
#include "tests/fuzz/refusal.h"
#include "tests/support/scratch_folder.h"

namespace {

namespace fuzz = sluice::fuzz;
namespace launcher = sluice::launcher;
namespace stage = sluice::stage;

class Folder {
 public:
  const std::filesystem::path& path() const { return scratch_.path(); }
  void put(std::string_view config, std::string_view generation) const {
    write("config.json", config);
    std::filesystem::remove(path() / "generation_config.json");
    if (!generation.empty()) write("generation_config.json", generation);
  }

 private:
  void write(const char* name, std::string_view text) const {
    std::ofstream file(path() / name, std::ios::binary);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
  }

  sluice::support::ScratchFolder scratch_;
};

void check(const launcher::ModelFolder& model) {
  const stage::DecoderConfig& config = model.config;
  fuzz::require(!model.eos_ids.empty(), "no token ends an answer");
  for (const std::int32_t id : model.eos_ids) {
    fuzz::require(id >= 0 && id < config.vocabulary, "a token that ends answers is no token");
  }
  for (const std::int32_t layer : {0, config.layers / 2, config.layers - 1}) {
    static_cast<void>(config.attention_rule(layer));
    static_cast<void>(config.positions.rotary_of(layer));
    for (const auto& tensor : stage::layer_group(config, layer).tensors) {
      if (tensor.name.empty()) continue;  // absent
      fuzz::require(tensor.rows > 0 && tensor.columns > 0, "a weight has an impossible size");
    }
  }
  const auto names = model.family->name_tensors(config);
  fuzz::require(!names.entries().empty(), "a model has no tensors");
}

std::string printed(std::string_view text) {
  return text.empty() ? std::string() : launcher::Json::parse(text).dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  const auto [config, generation] = fuzz::halves(data, size);
  folder.put(config, generation);
  launcher::ModelFolder model;
  const bool good = fuzz::accepts(sluice::ExitStatus::bad_input,
                                  [&] { model = launcher::open_model(folder.path()); });
  if (!good) return 0;
  check(model);
  folder.put(printed(config), printed(generation));
  fuzz::require(launcher::open_model(folder.path()).digest == model.digest,
                "a model is another when its config.json is printed again");
  return 0;
}
