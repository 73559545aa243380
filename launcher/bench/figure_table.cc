#include "launcher/bench/figure_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace sluice::launcher {

namespace {

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_cell(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? quoted(value.text()) : value.dump();
}

std::string csv(const std::vector<FigureColumn>& columns, const Json& rows) {
  std::vector<std::string> cells;
  for (const FigureColumn& column : columns) cells.push_back(column.key);
  std::string out = fmt::format("{}\n", fmt::join(cells, ","));
  for (const Json& row : rows) {
    cells.clear();
    for (const FigureColumn& column : columns) cells.push_back(csv_cell(row.member(column.key)));
    out += fmt::format("{}\n", fmt::join(cells, ","));
  }
  return out;
}

std::string markdown_cell(const FigureColumn& column, const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.text();
  if (value.is_integer()) return std::to_string(value.integer());
  return fmt::format("{:.{}f}", value.number(), column.digits);
}

/// Padded, so that it reads well as plain text, too.
std::string markdown(const std::vector<FigureColumn>& columns, const Json& rows) {
  std::vector<std::vector<std::string>> cells(1);
  for (const FigureColumn& column : columns) cells[0].push_back(column.title);
  for (const Json& row : rows) {
    cells.emplace_back();
    for (const FigureColumn& column : columns) {
      cells.back().push_back(markdown_cell(column, row.member(column.key)));
    }
  }
  std::vector<std::size_t> widths(columns.size(), 3);
  for (const auto& line : cells) {
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  }
  std::string out;
  for (std::size_t l = 0; l < cells.size(); ++l) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      out += columns[c].is_number ? fmt::format("| {:>{}} ", cells[l][c], widths[c])
                                  : fmt::format("| {:<{}} ", cells[l][c], widths[c]);
    }
    out += "|\n";
    if (l > 0) continue;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const std::string line(widths[c], '-');
      out += fmt::format("| {}{}", line, columns[c].is_number ? ":" : " ");
    }
    out += "|\n";
  }
  return out;
}

}  // namespace

std::string figure_table(const std::vector<FigureColumn>& columns, const Json& rows,
                         BenchForm form) {
  switch (form) {
    case BenchForm::markdown:
      return markdown(columns, rows);
    case BenchForm::csv:
      return csv(columns, rows);
    case BenchForm::json:
      return rows.dump(2) + "\n";
  }
  return "";
}

}  // namespace sluice::launcher
