// Tables of plain text, as wide as their cells.
#pragma once

#include <string>
#include <vector>

namespace sluice::launcher {

class TextTable {
 public:
  /// One letter per column: 'l' left, 'r' right. `header` has as many cells.
  TextTable(std::string alignment, std::vector<std::string> header);
  /// Missing cells at the end are empty.
  void add(std::vector<std::string> row);
  /// Lines of cells with two spaces between columns, each indented by `indent`; no trailing spaces.
  std::string text(std::size_t indent = 0) const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace sluice::launcher
