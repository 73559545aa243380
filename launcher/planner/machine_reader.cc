#include "launcher/planner/machine_reader.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>

#include "kernels/device/error.h"
#include "launcher/config/nearest_name.h"
#include "launcher/config/sizes.h"

namespace sluice::launcher {

namespace {

using Kind = ConfigNode::Kind;

std::optional<double> number_of(const ConfigNode& node) {
  double value = 0;
  const char* const end = node.text.data() + node.text.size();
  const auto result = std::from_chars(node.text.data(), end, value);
  const bool plain = node.kind == Kind::scalar && !node.quoted && result.ec == std::errc() &&
                     result.ptr == end && std::isfinite(value);
  return plain ? std::optional<double>(value) : std::nullopt;
}

/// Of "GB/s" where the base is "B/s": 1e9; nothing where it is no such unit.
std::optional<double> factor_of(std::string_view unit, std::string_view base) {
  struct Prefix {
    std::string_view text;
    double factor;
  };
  static constexpr Prefix kPrefixes[] = {{"", 1},
                                         {"k", 1e3},
                                         {"M", 1e6},
                                         {"G", 1e9},
                                         {"T", 1e12},
                                         {"P", 1e15},
                                         {"Ki", 1024.0},
                                         {"Mi", 1048576.0},
                                         {"m", 1e-3},
                                         {"u", 1e-6},
                                         {"n", 1e-9},
                                         {"Gi", 1073741824.0},
                                         {"Ti", 1099511627776.0}};
  if (!unit.ends_with(base)) return std::nullopt;
  const std::string_view prefix = unit.substr(0, unit.size() - base.size());
  const bool small = prefix == "m" || prefix == "u" || prefix == "n";
  if (base == "1" && !prefix.empty()) return std::nullopt;
  if (!prefix.empty() && small != (base == "s")) return std::nullopt;
  for (const Prefix& known : kPrefixes) {
    if (known.text == prefix) return known.factor;
  }
  return std::nullopt;
}

const char* units_of(std::string_view base) {
  if (base == "B/s") return "B/s, kB/s, MB/s, GB/s, TB/s or MiB/s, GiB/s";
  if (base == "FLOP/s") return "FLOP/s, MFLOP/s, GFLOP/s, TFLOP/s or PFLOP/s";
  return base == "s" ? "s, ms, us or ns" : "1";
}

bool is_date(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  for (const std::size_t digit : {0, 1, 2, 3, 5, 6, 8, 9}) {
    if (text[digit] < '0' || text[digit] > '9') return false;
  }
  const int month = (text[5] - '0') * 10 + text[6] - '0';
  const int day = (text[8] - '0') * 10 + text[9] - '0';
  return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

}  // namespace

MachineReader::MachineReader(const ConfigNode& root, std::string name, MachineParts parts,
                             ConfigProblems& problems)
    : name_(std::move(name)), parts_(parts), problems_(problems) {
  frames_.push_back({&root, "", {}});
}

void MachineReader::head() {
  if (const ConfigNode* format = scalar("format", Need::always, "sluice-machine-1");
      format != nullptr && format->text != "sluice-machine-1") {
    refuse(*format, "format", fmt::format("must be sluice-machine-1, not {}", shown(*format)));
  }
  const ConfigNode* contents = scalar("contents", Need::always, "all or probe");
  if (contents == nullptr) return;
  if (contents->text != "all" && contents->text != "probe") {
    refuse(*contents, "contents", fmt::format("must be all or probe, not {}", shown(*contents)));
  } else if (contents->text == "probe" && parts_ == MachineParts::all) {
    throw ConfigError(
        fmt::format("{}:{}:{}: key 'contents': the file has only what a run's short probe found; "
                    "sluice calibrate measures the rest",
                    name_, contents->place.line, contents->place.column));
  }
}

void MachineReader::finish() {
  const Frame& frame = frames_.back();
  const std::vector<std::string> known(frame.known.begin(), frame.known.end());
  for (const ConfigNode& item : frame.node->items) {
    if (frame.known.contains(item.key)) continue;
    add(item.key_place, item.key, "unknown key" + suggestion(item.key, known));
  }
}

void MachineReader::text(const char* key, std::string& value) {
  const std::string_view name = key;
  const Need need = name == "folder" || name == "date" ? Need::if_known : Need::always;
  const ConfigNode* node = scalar(key, need, "text");
  if (node == nullptr) return;
  value = node->text;
  if (name != "date") return;
  if (!is_date(value)) {
    refuse(*node, key, fmt::format("must be a date such as 2026-11-30, not {}", shown(*node)));
  }
  if (frames_.size() == 1) date_ = value;
}

void MachineReader::kind(const char* key, std::string& value, const std::string& wanted) {
  const ConfigNode* node = scalar(key, Need::always, "cpu or cuda");
  if (node == nullptr) return;
  value = node->text;
  if (value != "cpu" && value != "cuda") {
    refuse(*node, key, fmt::format("must be cpu or cuda, not {}", shown(*node)));
  } else if (!wanted.empty() && value != wanted) {
    refuse(*node, key, fmt::format("must be {}, as that of the host's first device", wanted));
  }
}

void MachineReader::flag(const char* key, bool& value) {
  const ConfigNode* node = scalar(key, Need::if_known, "true or false");
  if (node == nullptr) return;
  value = node->text == "true";
  if (node->text != "true" && node->text != "false") {
    refuse(*node, key, fmt::format("must be true or false, not {}", shown(*node)));
  }
  if (std::string_view(key) == "on_paper") on_paper_ = value;
}

void MachineReader::count(const char* key, std::int32_t& value, std::int32_t lowest, Need need,
                          std::int32_t most) {
  double read = value;
  if (!number(key, need, lowest, most, read)) return;
  value = static_cast<std::int32_t>(read);
  if (value != read) {
    add(frames_.back().node->place, key, fmt::format("must be a whole number, not {}", read));
  }
}

void MachineReader::size(const char* key, std::uint64_t& bytes, Need need) {
  constexpr std::uint64_t kLeast = 1 << 20;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 54;
  const ConfigNode* node = scalar(key, need, "a size such as 16GiB");
  if (node == nullptr) return;
  try {
    bytes = parse_size(node->text);
  } catch (const ConfigError& error) {
    refuse(*node, key, error.what());
    return;
  }
  if (bytes < kLeast || bytes > kMost) {
    refuse(*node, key,
           fmt::format("must be from 1 MiB to 16 PiB, not {}; is its unit right?", shown(*node)));
  }
}

void MachineReader::dtype(const char* key, DType& value) {
  const ConfigNode* node = scalar(key, Need::always, "f32, f16 or bf16");
  if (node == nullptr) return;
  for (const DType known : {DType::f32, DType::f16, DType::bf16}) {
    if (node->text == name_of(known)) {
      value = known;
      return;
    }
  }
  refuse(*node, key, fmt::format("must be f32, f16 or bf16, not {}", shown(*node)));
}

void MachineReader::figure(const char* key, Figure& figure, UnitKind unit, Need need) {
  if (!enter(key, need)) return;
  read_figure(figure, unit);
  finish();
  frames_.pop_back();
}

void MachineReader::read_figure(Figure& figure, const UnitKind& unit) {
  double value = 0;
  const bool there =
      number("value", Need::always, -HUGE_VAL, HUGE_VAL, value);  // judged with its unit
  const ConfigNode* written = scalar("unit", Need::always, units_of(unit.base));
  if (there && written != nullptr) {
    const std::optional<double> factor = factor_of(written->text, unit.base);
    if (!factor) {
      refuse(*written, "unit",
             fmt::format("must be {}, not {}", units_of(unit.base), shown(*written)));
    } else if (value * *factor < unit.lowest || value * *factor > unit.highest) {
      refuse(*find("value", Need::always), "value",
             fmt::format("{:g} {} cannot be: it must be from {:g} to {:g} {}; is its unit right?",
                         value, written->text, unit.lowest, unit.highest, unit.base));
    } else {
      figure.value = value * *factor;
    }
  }
  const Need need = on_paper_ ? Need::if_known : Need::always;
  number("spread", need, 0, 1, figure.spread);
  figure.date = date_;
  text("date", figure.date);
  if (const ConfigNode* how = scalar("how", Need::always, "text")) figure.how = how->text;
}

void MachineReader::curve(const char* key, RateCurve& curve, UnitKind unit, Need need) {
  const ConfigNode* node = find(key, need);
  if (node == nullptr) return;
  const std::size_t count = items_of(key, *node);
  for (std::size_t i = 0; i < count; ++i) {
    if (!enter_item(key, *node, i)) continue;
    read_point(node->items[i], unit, curve);
    finish();
    frames_.pop_back();
  }
}

void MachineReader::read_point(const ConfigNode& item, const UnitKind& unit, RateCurve& curve) {
  RateCurve::Point point;
  if (std::string_view(unit.base) == "FLOP/s") {
    if (!number("rows", Need::always, 1, 1e7, point.size)) point.size = 0;
  } else {
    const ConfigNode* node = scalar("bytes", Need::always, "a size such as 1MiB");
    try {
      if (node != nullptr) point.size = static_cast<double>(parse_size(node->text));
    } catch (const ConfigError& error) {
      refuse(*node, "bytes", error.what());
    }
  }
  const std::size_t before = problems_.size();
  read_figure(point.rate, unit);
  if (problems_.size() == before && (point.size <= 0 || !point.rate.known())) {
    add(item.place, "value", "a line of rates needs a size, a value and a unit");
  }
  if (point.size <= 0) return;
  if (!curve.points.empty() && point.size <= curve.points.back().size) {
    add(item.place, std::string_view(unit.base) == "FLOP/s" ? "rows" : "bytes",
        "must be more than in the line before");
  }
  curve.points.push_back(std::move(point));
}

void MachineReader::of_dtype(DType dtype, std::map<DType, Figure>& map, UnitKind unit) {
  Figure read;
  figure(name_of(dtype).data(), read, unit, Need::always);
  if (read.known()) map[dtype] = read;
}

void MachineReader::of_dtype(DType dtype, std::map<DType, RateCurve>& map, UnitKind unit) {
  RateCurve read;
  curve(name_of(dtype).data(), read, unit, Need::always);
  if (!read.points.empty()) map[dtype] = std::move(read);
}

bool MachineReader::enter(const char* key, Need need) {
  const ConfigNode* node = find(key, need);
  if (node == nullptr) return false;
  if (node->kind != Kind::map) {
    refuse(*node, key, fmt::format("must be a map of keys, not {}", shown(*node)));
    return false;
  }
  frames_.push_back({node, path_of(key), {}});
  return true;
}

std::size_t MachineReader::items_of(const char* key, const ConfigNode& node) {
  if (node.kind == Kind::sequence && !node.items.empty()) return node.items.size();
  refuse(node, key, fmt::format("must be a list of maps, one an item, not {}", shown(node)));
  return 0;
}

bool MachineReader::enter_item(const char* key, const ConfigNode& node, std::size_t index) {
  const std::string name = fmt::format("{}[{}]", key, index);
  const ConfigNode& item = node.items[index];
  if (item.kind != Kind::map) {
    refuse(item, name, fmt::format("must be a map of keys, not {}", shown(item)));
    return false;
  }
  frames_.push_back({&item, path_of(name), {}});
  return true;
}

const ConfigNode* MachineReader::find(const char* key, Need need) {
  Frame& frame = frames_.back();
  frame.known.emplace(key);
  for (const ConfigNode& item : frame.node->items) {
    if (item.key == key) return &item;
  }
  if (need == Need::always && parts_ == MachineParts::all) {
    const ConfigPlace place = frame.path.empty() ? ConfigPlace{1, 1} : frame.node->place;
    add(place, key, "is missing; sluice calibrate measures it");
  }
  return nullptr;
}

const ConfigNode* MachineReader::scalar(const char* key, Need need, const char* wanted) {
  const ConfigNode* node = find(key, need);
  if (node == nullptr || node->kind == Kind::scalar) return node;
  refuse(*node, key, fmt::format("must be {}, not {}", wanted, shown(*node)));
  return nullptr;
}

bool MachineReader::number(const char* key, Need need, double lowest, double highest,
                           double& value) {
  const ConfigNode* node = find(key, need);
  if (node == nullptr) return false;
  const std::optional<double> read = number_of(*node);
  if (!read) {
    refuse(*node, key, fmt::format("must be a number, not {}", shown(*node)));
  } else if (*read < lowest || *read > highest) {
    refuse(*node, key,
           fmt::format("must be from {:g} to {:g}, not {}", lowest, highest, shown(*node)));
  } else {
    value = *read;
    return true;
  }
  return false;
}

std::string MachineReader::path_of(std::string_view key) const {
  const std::string& path = frames_.back().path;
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

void MachineReader::refuse(const ConfigNode& node, std::string_view key,
                           const std::string& sentence) {
  add(node.place, key, sentence);
}

void MachineReader::add(ConfigPlace place, std::string_view key, const std::string& sentence) {
  problems_.push_back({place, fmt::format("{}:{}:{}: key '{}': {}", name_, place.line, place.column,
                                          path_of(key), sentence)});
}

}  // namespace sluice::launcher
