// to_yaml(), config_digest() and describe_keys(): the visitors that read the configuration.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>

#include "launcher/config/config_schema.h"
#include "launcher/config/config_yaml.h"
#include "launcher/config/duration.h"
#include "launcher/config/sizes.h"

namespace sluice::launcher {

std::string double_quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

namespace {

std::string written(const offload::Shares& value) {
  return fmt::format("[{}, {}, {}]", value.device, value.host, value.disk);
}

std::string written(const std::vector<std::string>& value) {
  std::vector<std::string> items;
  for (const std::string& text : value) items.push_back(double_quoted(text));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

class Printer final : public SchemaVisitor {
 public:
  std::string take() { return std::move(out_); }

  bool enter(const ConfigKey& section) override {
    begin(section.name);
    out_ += fmt::format("  # {}\n", section.meaning);
    indent_ += 2;
    return true;
  }
  void leave() override { indent_ -= 2; }
  void text(const ConfigKey& key, std::string& value) override { put(key, double_quoted(value)); }
  void boolean(const ConfigKey& key, bool& value) override { put(key, value ? "true" : "false"); }
  void integer(const ConfigKey& key, std::int64_t& value, IntegerRange) override {
    put(key, fmt::format("{}", value));
  }
  void real(const ConfigKey& key, double& value, RealRange) override {
    put(key, fmt::format("{}", value));
  }
  void size(const ConfigKey& key, std::uint64_t& bytes) override { put(key, exact_size(bytes)); }
  void duration(const ConfigKey& key, std::int64_t& seconds) override {
    put(key, exact_duration(seconds));
  }
  void choice(const ConfigKey& key, int& index, std::span<const char* const> names) override {
    put(key, names[static_cast<std::size_t>(index)]);
  }
  void shares(const ConfigKey& key, offload::Shares& value) override { put(key, written(value)); }
  void texts(const ConfigKey& key, std::vector<std::string>& value, std::size_t) override {
    put(key, written(value));
  }
  void integers(const ConfigKey& key, std::vector<std::int32_t>& value, IntegerRange) override {
    put(key, fmt::format("[{}]", fmt::join(value, ", ")));
  }
  void layers(const ConfigKey& key, stage::StageConfig& stage) override {
    if (stage.layers == 0) return;
    put(key, fmt::format("{}-{}", stage.first_layer, stage.first_layer + stage.layers - 1));
  }
  void stages(const ConfigKey& key, std::vector<stage::StageConfig>& stages,
              const stage::StageConfig&) override {
    if (stages.empty()) {
      put(key, "[]");
      return;
    }
    begin(key.name);
    out_ += fmt::format("  # {}\n", key.meaning);
    indent_ += 4;
    for (stage::StageConfig& stage : stages) {
      const std::size_t item = out_.size();
      layers({"layers", "decoder layers, first-last"}, stage);
      describe_stage(*this, stage);
      out_[item + static_cast<std::size_t>(indent_) - 2] = '-';
    }
    indent_ -= 4;
  }

 private:
  void begin(const char* name) { out_ += fmt::format("{:{}}{}:", "", indent_, name); }
  void put(const ConfigKey& key, const std::string& value) {
    begin(key.name);
    out_ += fmt::format(" {}  # {}\n", value, key.meaning);
  }

  std::string out_;
  int indent_ = 0;
};

std::string range_text(const char* kind, const std::string& lowest, const std::string& highest) {
  return fmt::format("{}, {} to {}", kind, lowest, highest);
}

/// Collects what each key is and what its default is.
class Lister final : public SchemaVisitor {
 public:
  std::vector<KeyDescription> take() { return std::move(keys_); }

  bool enter(const ConfigKey& section) override {
    paths_.push_back(path_of(section.name));
    return true;
  }
  void leave() override { paths_.pop_back(); }
  void text(const ConfigKey& key, std::string& value) override {
    add(key, "text", value.empty() ? "" : value);
  }
  void boolean(const ConfigKey& key, bool& value) override {
    add(key, "true or false", value ? "true" : "false").is_boolean = true;
  }
  void integer(const ConfigKey& key, std::int64_t& value, IntegerRange range) override {
    const bool endless = range.highest == std::numeric_limits<std::int64_t>::max();
    add(key,
        range_text("whole number", std::to_string(range.lowest),
                   endless ? "2^63 - 1" : std::to_string(range.highest)),
        std::to_string(value));
  }
  void real(const ConfigKey& key, double& value, RealRange range) override {
    add(key,
        range_text("number", fmt::format("{}{}", range.open_below ? "above " : "", range.lowest),
                   fmt::format("{}", range.highest)),
        fmt::format("{}", value));
  }
  void size(const ConfigKey& key, std::uint64_t& bytes) override {
    add(key, "size", exact_size(bytes));
  }
  void duration(const ConfigKey& key, std::int64_t& seconds) override {
    add(key, "duration", exact_duration(seconds));
  }
  void choice(const ConfigKey& key, int& index, std::span<const char* const> names) override {
    add(key, fmt::format("{}", fmt::join(names, ", ")), names[static_cast<std::size_t>(index)]);
  }
  void shares(const ConfigKey& key, offload::Shares& value) override {
    add(key, "shares", written(value));
  }
  void texts(const ConfigKey& key, std::vector<std::string>& value, std::size_t) override {
    add(key, "list of texts", written(value)).is_list = true;
  }
  void integers(const ConfigKey& key, std::vector<std::int32_t>&, IntegerRange) override {
    add(key, "list of whole numbers", "[]").is_list = true;
  }
  void layers(const ConfigKey& key, stage::StageConfig&) override {
    add(key, "count, or first-last", "");
  }
  void stages(const ConfigKey& key, std::vector<stage::StageConfig>&,
              const stage::StageConfig&) override {
    add(key, "list of maps", "[]");
    paths_.push_back(path_of(key.name) + "[i]");
    stage::StageConfig stage;
    layers({"layers", "decoder layers of this stage: 12, or 0-11; for every stage or for none"},
           stage);
    paths_.pop_back();
  }

 private:
  std::string path_of(const char* name) const {
    return paths_.empty() ? name : paths_.back() + "." + name;
  }
  KeyDescription& add(const ConfigKey& key, std::string form, std::string fallback) {
    keys_.push_back({path_of(key.name), key.flags, std::move(form), std::move(fallback),
                     key.meaning, false, false});
    return keys_.back();
  }

  std::vector<KeyDescription> keys_;
  std::vector<std::string> paths_;
};

}  // namespace

std::string to_yaml(const RunConfig& config) {
  Printer printer;
  RunConfig copy = config;  // a visitor may write
  describe(printer, copy);
  return printer.take();
}

std::string config_digest(const RunConfig& config) {
  RunConfig alike = config;
  alike.model.clear();
  alike.io_directory.clear();
  alike.job.input.clear();
  alike.job.output.clear();
  alike.report = {};
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
  for (const char c : to_yaml(alike)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  }
  return fmt::format("{:016x}", hash);
}

std::vector<KeyDescription> describe_keys() {
  Lister lister;
  RunConfig defaults;
  describe(lister, defaults);
  return lister.take();
}

}  // namespace sluice::launcher
