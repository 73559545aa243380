// to_yaml() of a Machine: the visitor that writes.
#include <fmt/format.h>

#include <string_view>

#include "launcher/config/config_yaml.h"
#include "launcher/config/sizes.h"
#include "launcher/planner/machine_fields.h"
#include "launcher/planner/machine_file.h"

namespace sluice::launcher {

namespace {

struct Prefix {
  const char* text;
  double factor;
};
constexpr Prefix kLarge[] = {{"P", 1e15}, {"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}};
constexpr Prefix kSmall[] = {{"", 1}, {"m", 1e-3}, {"u", 1e-6}, {"n", 1e-9}};

/// The largest that leaves a number of 1 or more.
Prefix prefix_for(double value, const UnitKind& unit) {
  const std::string_view base = unit.base;
  if (base == "1") return {"", 1};
  if (base == "s") {
    for (const Prefix& prefix : kSmall) {
      if (value >= prefix.factor) return prefix;
    }
    return kSmall[3];
  }
  for (const Prefix& prefix : kLarge) {
    if (value >= prefix.factor) return prefix;
  }
  return {"", 1};
}

class Printer {
 public:
  std::string take() { return std::move(out_); }

  void text(const char* key, const std::string& value) {
    if (!value.empty()) line(key, double_quoted(value));
  }
  void kind(const char* key, const std::string& value, const std::string&) { text(key, value); }
  void flag(const char* key, bool value) {
    if (value) line(key, "true");
  }
  void count(const char* key, std::int32_t value, std::int32_t lowest, Need, std::int32_t = 0) {
    if (value > lowest || lowest > 0) line(key, std::to_string(value));
  }
  void size(const char* key, std::uint64_t bytes, Need) {
    if (bytes > 0) line(key, exact_size(bytes));
  }
  void dtype(const char* key, DType value) { line(key, std::string(name_of(value))); }
  void figure(const char* key, const Figure& figure, UnitKind unit, Need) {
    if (figure.known()) line(key, fmt::format("{{{}}}", written(figure, unit)));
  }
  void curve(const char* key, const RateCurve& curve, UnitKind unit, Need) {
    if (curve.points.empty()) return;
    line(key, "");
    const bool of_rows = std::string_view(unit.base) == "FLOP/s";
    for (const RateCurve::Point& point : curve.points) {
      const std::string size = of_rows
                                   ? fmt::format("rows: {}", point.size)
                                   : "bytes: " + exact_size(static_cast<std::uint64_t>(point.size));
      out_ += fmt::format("{}  - {{{}, {}}}\n", margin_, size, written(point.rate, unit));
    }
  }
  void of_dtype(DType dtype, const std::map<DType, Figure>& map, UnitKind unit) {
    const auto found = map.find(dtype);
    if (found != map.end()) figure(name_of(dtype).data(), found->second, unit, Need::always);
  }
  void of_dtype(DType dtype, const std::map<DType, RateCurve>& map, UnitKind unit) {
    const auto found = map.find(dtype);
    if (found != map.end()) curve(name_of(dtype).data(), found->second, unit, Need::always);
  }
  template <typename Item, typename Inside>
  void list(const char* key, const std::vector<Item>& items, const Inside& inside) {
    if (items.empty()) return;
    line(key, "");
    const std::string margin = margin_;
    for (const Item& item : items) {
      out_ += margin + "  -\n";
      margin_ = margin + "    ";
      inside(item);
    }
    margin_ = margin;
  }
  /// Left out where nothing in it is known.
  template <typename Inside>
  void section(const char* key, Need, const Inside& inside) {
    const std::size_t before = out_.size();
    line(key, "");
    const std::size_t begin = out_.size();
    margin_ += "  ";
    inside();
    margin_.resize(margin_.size() - 2);
    if (out_.size() == begin) out_.resize(before);
  }

 private:
  static std::string written(const Figure& figure, const UnitKind& unit) {
    const Prefix prefix = prefix_for(figure.value, unit);
    std::string text = fmt::format("value: {:.6g}, unit: {}{}", figure.value / prefix.factor,
                                   prefix.text, unit.base);
    text += fmt::format(", spread: {:.3g}", figure.spread);
    if (!figure.date.empty()) text += ", date: " + double_quoted(figure.date);
    return text + ", how: " + double_quoted(figure.how);
  }
  void line(const char* key, const std::string& value) {
    out_ += fmt::format("{}{}:{}{}\n", margin_, key, value.empty() ? "" : " ", value);
  }

  std::string out_;
  std::string margin_;
};

}  // namespace

std::string to_yaml(const Machine& machine, MachineParts parts) {
  Printer printer;
  describe_machine(printer, machine);
  return fmt::format(
      "# What a machine can do, for sluice's planner: docs/planner.md. The rate is `value`, the\n"
      "# middle of several measurements; `spread` is half the distance of their quartiles, as a\n"
      "# part of it.\n"
      "format: sluice-machine-1\n"
      "contents: {}\n{}",
      parts == MachineParts::all ? "all" : "probe", printer.take());
}

}  // namespace sluice::launcher
