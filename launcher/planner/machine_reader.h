// The visitor that reads a machine file's tree. A part of machine_file.cc.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config/config_node.h"
#include "launcher/planner/machine_fields.h"
#include "launcher/planner/machine_file.h"

namespace sluice::launcher {

/// Sets what is there and adds a problem for each key that is missing, unknown or wrong.
class MachineReader {
 public:
  MachineReader(const ConfigNode& root, std::string name, MachineParts parts,
                ConfigProblems& problems);

  /// The keys that come before the machine's: what the file is.
  void head();
  /// Keys of the innermost map that nobody asked for.
  void finish();

  void text(const char* key, std::string& value);
  /// `wanted` empty: any.
  void kind(const char* key, std::string& value, const std::string& wanted);
  void flag(const char* key, bool& value);
  void count(const char* key, std::int32_t& value, std::int32_t lowest, Need need,
             std::int32_t most = 100'000);
  void size(const char* key, std::uint64_t& bytes, Need need);
  void dtype(const char* key, DType& value);
  void figure(const char* key, Figure& figure, UnitKind unit, Need need);
  void curve(const char* key, RateCurve& curve, UnitKind unit, Need need);
  void of_dtype(DType dtype, std::map<DType, Figure>& map, UnitKind unit);
  void of_dtype(DType dtype, std::map<DType, RateCurve>& map, UnitKind unit);
  /// A list of maps, which may be left out.
  template <typename Item, typename Inside>
  void list(const char* key, std::vector<Item>& items, const Inside& inside) {
    const ConfigNode* node = find(key, Need::if_known);
    if (node == nullptr) return;
    items.resize(items_of(key, *node));
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (!enter_item(key, *node, i)) continue;
      inside(items[i]);
      finish();
      frames_.pop_back();
    }
  }
  template <typename Inside>
  void section(const char* key, Need need, const Inside& inside) {
    if (!enter(key, need)) return;
    inside();
    finish();
    frames_.pop_back();
  }

 private:
  struct Frame {
    const ConfigNode* node;
    std::string path;
    std::set<std::string, std::less<>> known;
  };

  bool enter(const char* key, Need need);
  /// 0, and a problem, where it is no list.
  std::size_t items_of(const char* key, const ConfigNode& node);
  bool enter_item(const char* key, const ConfigNode& node, std::size_t index);
  /// Null where the key is not there, and a problem if it is needed.
  const ConfigNode* find(const char* key, Need need);
  /// The same of a key whose value must be one.
  const ConfigNode* scalar(const char* key, Need need, const char* wanted);
  bool number(const char* key, Need need, double lowest, double highest, double& value);
  void read_figure(Figure& figure, const UnitKind& unit);
  void read_point(const ConfigNode& item, const UnitKind& unit, RateCurve& curve);
  std::string path_of(std::string_view key) const;
  void refuse(const ConfigNode& node, std::string_view key, const std::string& sentence);
  void add(ConfigPlace place, std::string_view key, const std::string& sentence);

  std::string name_;
  MachineParts parts_;
  bool on_paper_ = false;
  std::string date_;
  ConfigProblems& problems_;
  std::vector<Frame> frames_;
};

}  // namespace sluice::launcher
