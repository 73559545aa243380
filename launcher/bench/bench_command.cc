#include "launcher/bench/bench_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/bench/child_run.h"
#include "launcher/bench/figure_table.h"
#include "launcher/bench/run_figures.h"
#include "launcher/bench/scaling.h"
#include "launcher/bench/serve_bench.h"

namespace sluice::launcher {

namespace {

struct Cell {
  BenchShape shape;
  std::int32_t batch = 1;
  std::vector<RunFigures> runs;
};

std::vector<std::string> words_of(const BenchArguments& arguments, const Cell& cell) {
  std::vector<std::string> words = {"--model",          arguments.model,
                                    "--prompt-len",     std::to_string(cell.shape.prompt),
                                    "--gen-len",        std::to_string(cell.shape.answer),
                                    "--num-prompts",    std::to_string(cell.batch),
                                    "--gpu-batch-size", std::to_string(cell.batch)};
  words.insert(words.end(), arguments.run_flags.begin(), arguments.run_flags.end());
  return words;
}

void add_row(const BenchArguments& arguments, const Cell& cell, const std::string& test,
             double RunFigures::*rate, Json& rows) {
  std::vector<double> rates;
  for (const RunFigures& run : cell.runs) rates.push_back(run.*rate);
  const Spread spread = spread_of(rates);
  const RunFigures& last = cell.runs.back();
  const bool decodes = rate == &RunFigures::decode_rate;
  Json row = {{"model", arguments.model},
              {"batch", cell.batch},
              {"test", test},
              {"tokens_per_second", spread.mean},
              {"deviation", spread.deviation},
              {"repetitions", cell.runs.size()},
              {"bound", decodes ? Json(last.bound) : Json(nullptr)},
              {"of_bound", decodes && last.of_bound > 0 ? Json(last.of_bound) : Json(nullptr)}};
  rows.push_back(std::move(row));
}

void bench_generate(const BenchArguments& arguments, std::ostream& out, std::ostream& log) {
  const TemporaryFolder folder;
  std::vector<Cell> cells;
  for (const BenchShape& shape : arguments.shapes) {
    for (const std::int32_t batch : arguments.batches) cells.push_back({shape, batch, {}});
  }
  const std::size_t all = cells.size() * static_cast<std::size_t>(arguments.repetitions);
  std::size_t done = 0;
  for (std::int32_t repetition = 0; repetition < arguments.repetitions; ++repetition) {
    for (Cell& cell : cells) {
      cell.runs.push_back(figures_of(run_generate(1, words_of(arguments, cell), folder.path())));
      const RunFigures& run = cell.runs.back();
      log << fmt::format(
          "run {} of {}: batch {}, pp{}: {:.2f} tokens/s, tg{}: {:.2f} tokens/s, {:.1f} s\n",
          ++done, all, cell.batch, cell.shape.prompt, run.prefill_rate, cell.shape.answer,
          run.decode_rate, run.seconds);
    }
  }
  Json rows = Json::array();
  for (const Cell& cell : cells) {
    add_row(arguments, cell, fmt::format("pp{}", cell.shape.prompt), &RunFigures::prefill_rate,
            rows);
    if (cell.shape.answer > 1) {
      add_row(arguments, cell, fmt::format("tg{}", cell.shape.answer), &RunFigures::decode_rate,
              rows);
    }
  }
  out << figure_table({{"model", "model", false},
                       {"batch", "batch"},
                       {"test", "test", false},
                       {"tokens_per_second", "tokens/s"},
                       {"deviation", "±"},
                       {"bound", "bound by", false},
                       {"of_bound", "of its rate"}},
                      rows, arguments.form);
}

}  // namespace

void bench(const BenchArguments& arguments, std::ostream& out, std::ostream& log) {
  switch (arguments.what) {
    case BenchCase::generate:
      return bench_generate(arguments, out, log);
    case BenchCase::scaling:
      return bench_scaling(arguments, out, log);
    case BenchCase::serve:
      return bench_serve(arguments, out, log);
  }
}

}  // namespace sluice::launcher
