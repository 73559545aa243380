#include "launcher/report/trace_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "launcher/json/json.h"

namespace sluice::launcher {

namespace {

constexpr int kMostLanes = 1000;  // of one activity; more overlap in the last

std::string json_text(const std::string& text) { return Json(text).dump(); }

int thread_of(Activity activity, int lane) {
  return static_cast<int>(activity) * kMostLanes + lane;
}

void add_name(std::string& out, const char* what, int process, int thread,
              const std::string& name) {
  fmt::format_to(
      std::back_inserter(out),
      R"({}{{"ph":"M","name":"{}_name","pid":{},"tid":{},"args":{{"name":{}}}}})"
      ",\n"
      R"({{"ph":"M","name":"{}_sort_index","pid":{},"tid":{},"args":{{"sort_index":{}}}}})",
      out.empty() ? "" : ",\n", what, process, thread, json_text(name), what, process, thread,
      *what == 'p' ? process : thread);
}

/// Microseconds with all nanoseconds: doubles would lose them after some days.
std::string microseconds(std::int64_t ns) {
  const bool negative = ns < 0;
  const auto size = negative ? 0 - static_cast<std::uint64_t>(ns) : static_cast<std::uint64_t>(ns);
  return fmt::format("{}{}.{:03}", negative ? "-" : "", size / 1000, size % 1000);
}

}  // namespace

std::size_t most_spans(int ranks) {
  // About 140 bytes each, 200 at the very most, and as many again for a thread's name where a span
  // is the only one of its lane: of 2^30.
  constexpr std::size_t kOfAllRanks = 2'000'000;
  return kOfAllRanks / static_cast<std::size_t>(ranks);
}

std::string trace_events(const StageTrace& trace) {
  std::string out;
  std::string process = fmt::format("stage {} on {}", trace.rank, trace.host);
  if (trace.is_cut_short) process += " (later spans not kept)";
  if (trace.dropped > 0) process += fmt::format(" ({} later spans not kept)", trace.dropped);
  add_name(out, "process", trace.rank, 0, process);

  std::vector<Span> spans = trace.spans;
  std::stable_sort(spans.begin(), spans.end(), [](const Span& one, const Span& other) {
    return one.begin_ns < other.begin_ns;
  });
  std::map<Activity, std::vector<std::int64_t>> ends;  // of each lane's last span
  std::string events;
  for (const Span& span : spans) {
    std::vector<std::int64_t>& lanes = ends[span.activity];
    auto lane = std::find_if(lanes.begin(), lanes.end(),
                             [&](std::int64_t end) { return end <= span.begin_ns; });
    if (lane == lanes.end()) {
      lane = lanes.size() < kMostLanes ? lanes.insert(lanes.end(), 0) : lanes.end() - 1;
    }
    *lane = std::max(*lane, span.end_ns);
    const int thread = thread_of(span.activity, static_cast<int>(lane - lanes.begin()));
    fmt::format_to(std::back_inserter(events),
                   ",\n"
                   R"({{"ph":"X","name":"{}","cat":"sluice","pid":{},"tid":{},"ts":{},"dur":{},)"
                   R"("args":{{"pass":{},"layer":{}}}}})",
                   name_of(span.activity), trace.rank, thread,
                   microseconds(span.begin_ns + trace.offset_ns),
                   microseconds(std::max<std::int64_t>(span.end_ns - span.begin_ns, 0)), span.pass,
                   span.layer);
  }
  for (const auto& [activity, lanes] : ends) {
    for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
      const std::string name = name_of(activity);
      add_name(out, "thread", trace.rank, thread_of(activity, static_cast<int>(lane)),
               lane == 0 ? name : fmt::format("{} {}", name, lane + 1));
    }
  }
  return out + events;
}

std::string trace_json(const std::vector<std::string>& events_of_ranks) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  bool first = true;
  for (const std::string& events : events_of_ranks) {
    if (events.empty()) continue;
    out += (first ? "" : ",\n") + events;
    first = false;
  }
  return out + "\n]}\n";
}

}  // namespace sluice::launcher
