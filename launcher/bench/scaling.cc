#include "launcher/bench/scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "launcher/bench/child_run.h"
#include "launcher/bench/figure_table.h"
#include "launcher/bench/run_figures.h"
#include "launcher/report/report_file.h"

namespace sluice::launcher {

namespace {

constexpr double kShownPasses = 24;  // in the page
constexpr double kFinest = 500;      // gaps of half the picture that are shown

struct Cell {
  std::int32_t stages = 1;
  std::int32_t prompts = 1;
  std::vector<RunFigures> runs;

  double mean(double RunFigures::*figure) const {
    std::vector<double> values;
    for (const RunFigures& run : runs) values.push_back(run.*figure);
    return spread_of(values).mean;
  }
  double deviation(double RunFigures::*figure) const {
    std::vector<double> values;
    for (const RunFigures& run : runs) values.push_back(run.*figure);
    return spread_of(values).deviation;
  }
};

std::vector<std::string> words_of(const BenchArguments& arguments, const Cell& cell) {
  const BenchShape shape = arguments.shapes.front();
  std::vector<std::string> words = {"--model",       arguments.model,
                                    "--prompt-len",  std::to_string(shape.prompt),
                                    "--gen-len",     std::to_string(shape.answer),
                                    "--num-prompts", std::to_string(cell.prompts)};
  words.insert(words.end(), arguments.run_flags.begin(), arguments.run_flags.end());
  return words;
}

struct Interval {
  double begin = 0;  // seconds
  double end = 0;
};

/// By stage, in order: when its device computed.
std::map<std::int64_t, std::vector<Interval>> computing(const std::filesystem::path& trace) {
  std::ifstream in(trace, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const Json file = Json::parse(text);
  std::map<std::int64_t, std::vector<Interval>> stages;
  for (const Json& event : file.at("traceEvents")) {
    if (event.at("ph").text() != "X" || event.at("name").text() != "compute") continue;
    const double begin = event.at("ts").number() / 1e6;
    stages[event.at("pid").integer()].push_back({begin, begin + event.at("dur").number() / 1e6});
  }
  for (auto& [stage, times] : stages) {
    std::ranges::sort(times, {}, &Interval::begin);
  }
  return stages;
}

/// The middle of the run, as long as kShownPasses take: each stage's times at work, without gaps
/// that nobody would see.
Json work_of(const std::filesystem::path& trace, std::uint64_t passes, double wall_seconds) {
  const auto stages = computing(trace);
  double last = 0;
  for (const auto& [stage, times] : stages) last = std::max(last, times.back().end);
  const double first = last - wall_seconds;  // loading lies before it
  const double share =
      std::min(1.0, kShownPasses / static_cast<double>(std::max<std::uint64_t>(passes, 1)));
  const double middle = (first + last) / 2;
  const double half = (last - first) * share / 2;
  Json shown = Json::array();
  for (const auto& [stage, times] : stages) {
    Interval bar;
    const auto show = [&, stage = stage] {
      if (bar.end > bar.begin) {
        shown.push_back({{"stage", stage}, {"begin", bar.begin}, {"end", bar.end}});
      }
    };
    for (const Interval& time : times) {
      if (time.end < middle - half || time.begin > middle + half) continue;
      if (time.begin > bar.end + half / kFinest) {
        show();
        bar = time;
      }
      bar.end = std::max(bar.end, time.end);
    }
    show();
  }
  return shown;
}

Json row_of(const char* kind, const Cell& cell, const Cell& base) {
  const double rate = cell.mean(&RunFigures::rate);
  const double speed_up = rate / base.mean(&RunFigures::rate);
  const double over = static_cast<double>(cell.stages) / base.stages;
  const double predicted = cell.runs.front().predicted_seconds;
  const double seconds = cell.mean(&RunFigures::seconds);
  return {{"scaling", kind},
          {"stages", cell.stages},
          {"prompts", cell.prompts},
          {"tokens_per_second", rate},
          {"deviation", cell.deviation(&RunFigures::rate)},
          {"decode_tokens_per_second", cell.mean(&RunFigures::decode_rate)},
          {"speed_up", speed_up},
          {"efficiency", speed_up / over},
          {"bubble", cell.mean(&RunFigures::bubble)},
          {"bound", cell.runs.back().bound},
          {"seconds", seconds},
          {"predicted_seconds", predicted > 0 ? Json(predicted) : Json(nullptr)},
          {"error", predicted > 0 ? Json(seconds / predicted - 1) : Json(nullptr)}};
}

Json shares_of(const Cell& cell) {
  Json all = Json::array();
  for (std::size_t s = 0; s < cell.runs.back().stages.size(); ++s) {
    const StageShares& shares = cell.runs.back().stages[s];
    all.push_back({{"stages", cell.stages},
                   {"stage", s},
                   {"compute", shares.compute},
                   {"weights", shares.weights},
                   {"kv", shares.kv},
                   {"activations", shares.activations},
                   {"message", shares.message},
                   {"no_pass", shares.no_pass},
                   {"other", shares.other}});
  }
  return all;
}

const std::vector<FigureColumn>& columns() {
  static const std::vector<FigureColumn> all = {{"scaling", "scaling", false},
                                                {"stages", "stages"},
                                                {"prompts", "prompts"},
                                                {"tokens_per_second", "tokens/s"},
                                                {"deviation", "±"},
                                                {"decode_tokens_per_second", "decode"},
                                                {"speed_up", "speed-up"},
                                                {"efficiency", "efficiency"},
                                                {"bubble", "bubble"},
                                                {"bound", "bound by", false},
                                                {"seconds", "s"},
                                                {"predicted_seconds", "predicted s"},
                                                {"error", "error"}};
  return all;
}

/// The strong cells, then the weak ones, by number of stages. Where the strong job is as large as
/// the weak one, it is run once.
std::vector<Cell> cells_of(const BenchArguments& arguments) {
  const std::int32_t most = *std::max_element(arguments.stages.begin(), arguments.stages.end());
  std::vector<Cell> cells;
  for (const std::int32_t stages : arguments.stages) {
    cells.push_back({stages, arguments.prompts, {}});
  }
  for (const std::int32_t stages : arguments.stages) {
    cells.push_back({stages, std::max(arguments.prompts * stages / most, 1), {}});
  }
  return cells;
}

void run_cells(const BenchArguments& arguments, const std::filesystem::path& folder,
               std::vector<Cell>& cells, std::ostream& log) {
  for (std::int32_t repetition = 0; repetition < arguments.repetitions; ++repetition) {
    for (std::size_t c = 0; c < cells.size(); ++c) {
      Cell& cell = cells[c];
      const auto same = std::find_if(
          cells.begin(), cells.begin() + static_cast<std::ptrdiff_t>(c), [&](const Cell& other) {
            return other.stages == cell.stages && other.prompts == cell.prompts;
          });
      if (same != cells.begin() + static_cast<std::ptrdiff_t>(c)) {
        cell.runs.push_back(same->runs.back());
        continue;
      }
      cell.runs.push_back(figures_of(run_generate(cell.stages, words_of(arguments, cell), folder)));
      const RunFigures& run = cell.runs.back();
      log << fmt::format("{} stage{}, {} prompts, turn {} of {}: {:.2f} tokens/s, {:.1f} s\n",
                         cell.stages, cell.stages == 1 ? "" : "s", cell.prompts, repetition + 1,
                         arguments.repetitions, run.rate, run.seconds);
    }
  }
}

void write_page(const BenchArguments& arguments, const std::filesystem::path& folder,
                const std::vector<Cell>& cells, const Json& rows, std::ostream& log) {
  const auto strong = static_cast<std::ptrdiff_t>(arguments.stages.size());
  const Cell& widest = *std::max_element(
      cells.begin(), cells.begin() + strong,
      [](const Cell& one, const Cell& other) { return one.stages < other.stages; });
  log << fmt::format("{} stages once more, traced for the page\n", widest.stages);
  std::vector<std::string> words = words_of(arguments, widest);
  const std::filesystem::path trace = folder / "trace.json";
  words.insert(words.end(), {"--trace", trace.string()});
  const Json report = run_generate(widest.stages, words, folder);
  const Json& run = report.at("stages").front().at("run");
  Json shares = Json::array();
  for (auto cell = cells.begin(); cell != cells.begin() + strong; ++cell) {
    for (const Json& one : shares_of(*cell)) shares.push_back(one);
  }
  const BenchShape shape = arguments.shapes.front();
  Json data = {
      {"title", fmt::format("{}: {} prompts of {} tokens, {} new tokens each", arguments.model,
                            arguments.prompts, shape.prompt, shape.answer)},
      {"rows", rows},
      {"stages", shares},
      {"work",
       work_of(trace, run.at("passes").unsigned_integer(), run.at("wall_seconds").number())}};
  write_report_file(arguments.page, scaling_page(data));
}

}  // namespace

std::string scaling_page(const Json& data) {
  std::string text = data.dump(-1, true);
  // "</script>" in a model's name would end the data.
  for (std::size_t at = 0; (at = text.find("</", at)) != std::string::npos; at += 3) {
    text.replace(at, 2, "<\\/");
  }
  std::string page = kScalingPage;
  constexpr std::string_view kPlace = "@data@";
  return page.replace(page.find(kPlace), kPlace.size(), text);
}

void bench_scaling(const BenchArguments& arguments, std::ostream& out, std::ostream& log) {
  if (!arguments.page.empty()) check_writable(arguments.page, "--page");
  const TemporaryFolder folder;
  std::vector<Cell> cells = cells_of(arguments);
  run_cells(arguments, folder.path(), cells, log);
  Json rows = Json::array();
  const std::size_t strong = arguments.stages.size();
  for (std::size_t c = 0; c < cells.size(); ++c) {
    rows.push_back(
        row_of(c < strong ? "strong" : "weak", cells[c], cells[c < strong ? 0 : strong]));
  }
  out << figure_table(columns(), rows, arguments.form);
  if (!arguments.page.empty()) write_page(arguments, folder.path(), cells, rows, log);
}

}  // namespace sluice::launcher
