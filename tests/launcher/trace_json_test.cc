#include "launcher/report/trace_json.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace sluice::launcher {
namespace {

using Json = nlohmann::json;

Json events_of(const std::vector<std::string>& ranks) {
  return Json::parse(trace_json(ranks)).at("traceEvents");
}

TEST(TraceJson, HasAProcessPerStageAndAThreadPerActivity) {
  const std::string first =
      trace_events({0, "node1", {{Activity::compute, 7, 3, 1500, 4001}}, 0, 0});
  const std::string second =
      trace_events({1,
                    "node\"2\"",
                    {{Activity::idle, -1, -1, 0, 1000}, {Activity::send, 7, -1, 10, 20}},
                    5,
                    false,
                    500});
  const Json events = events_of({first, "", second});
  std::map<std::pair<int, int>, std::string> threads;
  std::map<int, std::string> processes;
  for (const Json& event : events) {
    if (event.at("ph") != "M") continue;
    const int process = event.at("pid");
    if (event.at("name") == "process_name") processes[process] = event.at("args").at("name");
    if (event.at("name") == "thread_name") {
      threads[{process, event.at("tid").get<int>()}] = event.at("args").at("name");
    }
  }
  EXPECT_EQ(processes,
            (std::map<int, std::string>{{0, "stage 0 on node1"},
                                        {1, "stage 1 on node\"2\" (5 later spans not kept)"}}));
  std::vector<Json> spans;
  for (const Json& event : events) {
    if (event.at("ph") != "X") continue;
    spans.push_back(event);
    const auto thread = threads.find({event.at("pid").get<int>(), event.at("tid").get<int>()});
    ASSERT_NE(thread, threads.end());
    EXPECT_EQ(thread->second, event.at("name"));
  }
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[0].at("name"), "compute");
  EXPECT_EQ(spans[0].at("ts"), 1.5);  // microseconds
  EXPECT_EQ(spans[0].at("dur"), 2.501);
  EXPECT_EQ(spans[0].at("args").at("pass"), 7);
  EXPECT_EQ(spans[0].at("args").at("layer"), 3);
  EXPECT_EQ(spans[1].at("name"), "idle");
  EXPECT_EQ(spans[1].at("ts"), 0.5);  // the rank's offset
  EXPECT_EQ(spans[2].at("ts"), 0.51);
}

TEST(TraceJson, SpansOfAThreadNeverOverlap) {
  std::vector<Span> spans;
  for (int i = 0; i < 50; ++i) {
    spans.push_back({Activity::disk_read, i, 0, (49 - i) * 10, (49 - i) * 10 + 35});
    spans.push_back({Activity::compute, i, 0, i * 10, i * 10 + 10});
  }
  std::map<int, std::vector<std::pair<double, double>>> by_thread;
  std::set<std::string> names;
  for (const Json& event : events_of({trace_events({0, "h", spans, 0, 0})})) {
    if (event.at("name") == "thread_name") names.insert(event.at("args").at("name"));
    if (event.at("ph") != "X") continue;
    const double begin = event.at("ts");
    by_thread[event.at("tid")].emplace_back(begin, begin + event.at("dur").get<double>());
  }
  EXPECT_EQ(names, (std::set<std::string>{"compute", "disk read", "disk read 2", "disk read 3",
                                          "disk read 4"}));
  std::size_t count = 0;
  for (const auto& [thread, on_it] : by_thread) {
    count += on_it.size();
    for (std::size_t i = 1; i < on_it.size(); ++i) {
      EXPECT_LE(on_it[i - 1].second, on_it[i].first + 1e-9);
    }
  }
  EXPECT_EQ(count, spans.size());
}

TEST(TraceJson, KeepsNanosecondsOfLongRuns) {
  constexpr std::int64_t kMonth = 30LL * 86400 * 1000000000;
  const std::string events =
      trace_events({0, "h", {{Activity::compute, 0, 0, kMonth + 1, kMonth + 2}}, 0, 0});
  EXPECT_NE(events.find("\"ts\":2592000000000.001,\"dur\":0.001"), std::string::npos) << events;
}

// Beyond 2^30 bytes the ranks could not exchange it, and a finished job would fail.
TEST(TraceJson, TheLongestTextOfAllRanksFitsOneMessage) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max();
  constexpr int kSpans = 500;
  std::vector<Span> spans;
  // All at once: each has a lane, and with it a thread, of its own.
  for (int i = 0; i < kSpans; ++i)
    spans.push_back({Activity::host_to_device, kMost, kMost, 0, kLast});
  for (const int ranks : {1, 2, 8, 64, 1000, 4096}) {
    const std::size_t text = trace_events({ranks - 1, "host", spans, 0, 0}).size();
    EXPECT_GT(most_spans(ranks), 100U);
    EXPECT_LT(static_cast<double>(text) / kSpans * static_cast<double>(most_spans(ranks)) * ranks,
              static_cast<double>(1U << 30U))
        << ranks;
  }
}

TEST(TraceJson, NothingIsATraceToo) { EXPECT_TRUE(events_of({}).empty()); }

}  // namespace
}  // namespace sluice::launcher
