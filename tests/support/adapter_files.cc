#include "tests/support/adapter_files.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "kernels/half.h"
#include "launcher/model/opened_model.h"
#include "tests/support/file_bytes.h"

namespace sluice::support {

namespace {

std::vector<float> values_of(const offload::Checkpoint& checkpoint,
                             const offload::TensorRecord& tensor) {
  const std::string file = read_file(checkpoint.files()[static_cast<std::size_t>(tensor.file)]);
  const char* const from = file.data() + tensor.offset;
  std::vector<float> values(tensor.bytes / size_of(tensor.dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t half = 0;
    if (tensor.dtype == DType::f32) {
      std::memcpy(&values[i], from + 4 * i, 4);
      continue;
    }
    std::memcpy(&half, from + 2 * i, 2);
    values[i] = tensor.dtype == DType::f16 ? kernels::from_f16(half) : kernels::from_bf16(half);
  }
  return values;
}

/// In (-size, size).
std::vector<float> random_values(std::int64_t count, std::uint64_t& seed, double size) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    seed += 0x9e3779b97f4a7c15U;  // splitmix64
    std::uint64_t x = (seed ^ seed >> 30U) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27U) * 0x94d049bb133111ebU;
    x ^= x >> 31U;
    value = static_cast<float>(size * (static_cast<double>(x >> 11U) * 0x1p-52 - 1.0));
  }
  return values;
}

/// Adds scale * B A, or its transpose.
void merge(const AdaptedModule& module, std::int64_t rank, double scale,
           std::vector<float>& values) {
  for (std::int64_t out = 0; out < module.outputs; ++out) {
    for (std::int64_t in = 0; in < module.inputs; ++in) {
      double sum = 0;
      for (std::int64_t r = 0; r < rank; ++r) {
        sum += static_cast<double>(module.upper[static_cast<std::size_t>(out * rank + r)]) *
               static_cast<double>(module.lower[static_cast<std::size_t>(r * module.inputs + in)]);
      }
      const std::int64_t at =
          module.transposed ? in * module.outputs + out : out * module.inputs + in;
      values[static_cast<std::size_t>(at)] += static_cast<float>(scale * sum);
    }
  }
}

std::string stem_of(const std::string& weight) {
  return weight.substr(0, weight.size() - std::string(".weight").size());
}

}  // namespace

MadeAdapter make_adapter(const std::filesystem::path& model, std::int64_t rank, double alpha,
                         std::uint64_t seed,
                         const std::function<bool(const std::string& weight)>& wanted) {
  static const std::regex in_layers(R"((^|.*\.)(h|layers|blocks)\.(\d+)\..*\.weight)");
  const launcher::OpenedModel opened =
      launcher::open_checkpoint(launcher::open_model(model.string()));
  std::set<std::string> transposed;
  for (const auto& [ours, stored] : opened.names) {
    if (stored.transposed) transposed.insert(stored.tensor);
  }
  MadeAdapter made{rank, alpha, {}};
  for (const offload::TensorRecord& tensor : opened.checkpoint->tensors()) {
    std::smatch parts;  // layers behind the model's last are for guessing ahead
    const bool fits = tensor.shape.size() == 2 && std::regex_match(tensor.name, parts, in_layers) &&
                      std::stoi(parts[3]) < opened.folder.config.layers &&
                      tensor.name.find("vision") == std::string::npos && wanted(tensor.name);
    if (!fits) continue;
    AdaptedModule& module = made.modules.emplace_back();
    module.weight = tensor.name;
    module.transposed = transposed.contains(tensor.name);
    module.outputs = tensor.shape[module.transposed ? 1 : 0];
    module.inputs = tensor.shape[module.transposed ? 0 : 1];
    module.lower = random_values(rank * module.inputs, seed, 0.3);
    module.upper = random_values(module.outputs * rank, seed, 0.3);
  }
  return made;
}

std::string safetensors_bytes(const std::vector<FloatTensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const FloatTensor& tensor : tensors) {
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()),
                tensor.values.size() * sizeof(float));
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return little(text.size(), 8) + text + data;
}

void write_adapter(const MadeAdapter& adapter, const std::filesystem::path& folder,
                   const std::string& prefix) {
  std::filesystem::create_directories(folder);
  std::vector<FloatTensor> tensors;
  for (const AdaptedModule& module : adapter.modules) {
    const std::string name = "base_model.model." + prefix + stem_of(module.weight);
    tensors.push_back({name + ".lora_A.weight", {adapter.rank, module.inputs}, module.lower});
    tensors.push_back({name + ".lora_B.weight", {module.outputs, adapter.rank}, module.upper});
  }
  write_file(folder / "adapter_model.safetensors", safetensors_bytes(tensors));
  const nlohmann::json config = {
      {"peft_type", "LORA"}, {"r", adapter.rank}, {"lora_alpha", adapter.alpha}};
  write_file(folder / "adapter_config.json", config.dump());
}

void write_merged(const std::filesystem::path& model, const MadeAdapter& adapter,
                  const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const auto& file : std::filesystem::directory_iterator(model)) {
    if (file.path().extension() == ".json" &&
        file.path().filename().string().find(".index.") == std::string::npos) {
      std::filesystem::copy_file(file.path(), folder / file.path().filename());
    }
  }
  const offload::Checkpoint checkpoint = offload::Checkpoint::open(model);
  std::vector<FloatTensor> tensors;
  for (const offload::TensorRecord& tensor : checkpoint.tensors()) {
    if (!tensor.problem.empty()) continue;
    FloatTensor& made = tensors.emplace_back();
    made = {tensor.name, tensor.shape, values_of(checkpoint, tensor)};
    for (const AdaptedModule& module : adapter.modules) {
      if (module.weight != tensor.name) continue;
      merge(module, adapter.rank, adapter.alpha / static_cast<double>(adapter.rank), made.values);
    }
  }
  write_file(folder / "model.safetensors", safetensors_bytes(tensors));
}

}  // namespace sluice::support
