// A benchmark's table in the form that was asked for.
#pragma once

#include <string>
#include <vector>

#include "launcher/bench/bench_command.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

struct FigureColumn {
  std::string key;    // of JSON and CSV: "tokens_per_second"
  std::string title;  // of Markdown: "t/s"
  bool is_number = true;
  int digits = 2;  // after the point, in Markdown
};

/// Rows are objects by the columns' keys; what is null or missing is not known.
std::string figure_table(const std::vector<FigureColumn>& columns, const Json& rows,
                         BenchForm form);

}  // namespace sluice::launcher
