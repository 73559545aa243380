// `sluice bench serve`: streams however they are cut, figures by hand, and loads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "kernels/device/error.h"
#include "launcher/bench/answer_times.h"
#include "launcher/bench/http_client.h"
#include "launcher/bench/serve_figures.h"
#include "launcher/bench/serve_load.h"
#include "launcher/json/json.h"

namespace sluice::launcher {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

BenchClock::time_point at(int time) { return BenchClock::time_point(milliseconds(time)); }

const std::string kStream =
    "data: {\"choices\": [{\"text\": \"\"}]}\n\n"
    "data: {\"choices\": [{\"text\": \" 15\"}]}\r\n\r\n"
    ": a heartbeat\n"
    "data:{\"choices\": [{\"delta\": {\"content\": \"x\"}}]}\n\n"
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 4}}\n\n"
    "data: [DONE]\n\n";

TEST(AnswerReader, TakesStreamsHoweverTheyAreCut) {
  for (std::size_t size = 1; size <= kStream.size(); ++size) {
    AnswerReader reader(at(5));
    for (std::size_t i = 0; i < kStream.size(); i += size) {
      reader.take(kStream.substr(i, size), at(10));
    }
    const AnswerTimes times = reader.end();
    EXPECT_TRUE(times.is_complete()) << times.error;
    EXPECT_EQ(times.begin, at(5));
    EXPECT_THAT(times.events, ElementsAre(at(10), at(10)));
    EXPECT_EQ(times.prompt_tokens, 9);
    EXPECT_EQ(times.output_tokens, 4);
  }
}

TEST(AnswerReader, SaysWhatWentWrong) {
  AnswerReader broken(at(0));
  broken.take("data: {\"choices\": [{\"text\": \"a\"}]}\n\n", at(1));
  EXPECT_EQ(broken.end().error, "the stream broke off");

  AnswerReader failed(at(0));
  failed.take("data: {\"error\": {\"message\": \"the server has ended\"}}\n\ndata: [DONE]\n",
              at(1));
  EXPECT_EQ(failed.end().error, "the server has ended");

  AnswerReader silent(at(0));
  silent.take("data: [DONE]\n", at(1));
  EXPECT_EQ(silent.end().error, "the answer has no text");

  AnswerReader refused(at(0));
  EXPECT_EQ(refused.end("status 429: the queue is full").error, "status 429: the queue is full");

  EXPECT_EQ(error_text("{\"error\": {\"message\": \"no\"}}"), "no");
  EXPECT_EQ(error_text("{\"error\": \"no\"}"), "no");
  EXPECT_EQ(error_text("<html>"), "<html>");
}

TEST(AnswerReader, CountsEventsWhereTheServerCountsNoTokens) {
  AnswerReader reader(at(0));
  reader.take(
      "data: {\"choices\": [{\"text\": \"a\"}]}\ndata: {\"choices\": [{\"text\": \"b\"}]}\n",
      at(1));
  reader.take("data: [DONE]\n", at(2));
  EXPECT_EQ(reader.end().output_tokens, 2);
}

AnswerTimes answer_of(int begin, const std::vector<int>& events, int tokens) {
  AnswerTimes times;
  times.begin = at(begin);
  for (const int event : events) times.events.push_back(at(event));
  times.output_tokens = tokens;
  times.prompt_tokens = 100;
  return times;
}

TEST(ServeFigures, AreThoseThatCanBeCountedByHand) {
  AnswerTimes lost;
  lost.begin = at(0);
  lost.error = "status 429";
  const std::vector<AnswerTimes> answers = {
      answer_of(1000, {1100, 1150, 1300}, 5),  // TTFT 100, gaps 50 and 150, E2E 300, TPOT 200 / 4
      answer_of(1200, {1500}, 1),              // TTFT 300, E2E 300, no TPOT
      lost, answer_of(2000, {2200, 3000}, 3), lost};  // TTFT 200, gap 800, E2E 1000, TPOT 800 / 2
  const ServeFigures figures = serve_figures(answers);
  EXPECT_EQ(figures.complete, 3);
  EXPECT_EQ(figures.failed(), 2);
  EXPECT_EQ(figures.failures.at("status 429"), 2);
  EXPECT_DOUBLE_EQ(figures.seconds, 2);
  EXPECT_DOUBLE_EQ(figures.first_token.mean, 200);
  EXPECT_DOUBLE_EQ(figures.first_token.median, 200);
  EXPECT_DOUBLE_EQ(figures.first_token.p99, 298);  // 0.98 of the way from 200 to 300
  EXPECT_DOUBLE_EQ(figures.output_token.mean, (50.0 + 400.0) / 2);
  EXPECT_DOUBLE_EQ(figures.gap.median, 150);
  EXPECT_DOUBLE_EQ(figures.whole.mean, 1600.0 / 3);
  const Json json = figures_json(figures);
  EXPECT_DOUBLE_EQ(json.at("requests_per_second").number(), 1.5);
  EXPECT_DOUBLE_EQ(json.at("output_tokens_per_second").number(), 4.5);
  EXPECT_DOUBLE_EQ(json.at("total_tokens_per_second").number(), 154.5);
  EXPECT_EQ(json.at("latencies").size(), 4U);
  EXPECT_EQ(json.at("failures").at("status 429").integer(), 2);
}

TEST(ServeFigures, OfNoAnswerAreZeros) {
  const ServeFigures figures = serve_figures({});
  EXPECT_EQ(figures.complete, 0);
  EXPECT_DOUBLE_EQ(figures.per_second(3), 0);
  EXPECT_DOUBLE_EQ(figures.first_token.p99, 0);
}

Json prompt_of(const LoadRequest& request) { return Json::parse(request.body).at("prompt"); }

TEST(ServeLoad, MakesThePromptsOfANumberTheSameInEveryRun) {
  const std::vector<std::int32_t> ids = {7, 8, 9, 10, 11, 12};
  ServeLoad load;
  load.prefix = 5;
  load.seed = 3;
  const auto requests = made_up_requests(ids, {12, 4}, load, 0, 3);
  ASSERT_EQ(requests.size(), 3U);
  const auto again = made_up_requests(ids, {12, 4}, load, 2, 1);
  EXPECT_EQ(again[0].body, requests[2].body);
  load.seed = 4;
  EXPECT_NE(made_up_requests(ids, {12, 4}, load, 2, 1)[0].body, requests[2].body);
  const Json body = Json::parse(requests[0].body);
  EXPECT_EQ(body.at("max_tokens").integer(), 4);
  EXPECT_TRUE(body.at("stream").boolean());
  EXPECT_TRUE(body.at("ignore_eos").boolean());
  for (const LoadRequest& request : requests) {
    EXPECT_EQ(request.path, "/v1/completions");
    ASSERT_EQ(prompt_of(request).size(), 12U);
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(prompt_of(request)[i], prompt_of(requests[0])[i]);
    }
  }
  EXPECT_NE(prompt_of(requests[0]), prompt_of(requests[1]));
}

TEST(ServeLoad, ReadsRowsWithTheirFields) {
  std::istringstream lines(
      "{\"prompt\": \"a\", \"max_tokens\": 3, \"top_k\": 2}\n\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}\n");
  const auto requests = read_requests(lines, "rows.jsonl", {512, 32}, 3);
  ASSERT_EQ(requests.size(), 3U);
  const Json first = Json::parse(requests[0].body);
  EXPECT_EQ(first.at("max_tokens").integer(), 3);
  EXPECT_EQ(first.at("top_k").integer(), 2);
  EXPECT_TRUE(first.at("stream_options").at("include_usage").boolean());
  EXPECT_EQ(requests[1].path, "/v1/chat/completions");
  EXPECT_EQ(Json::parse(requests[1].body).at("max_tokens").integer(), 32);
  EXPECT_EQ(requests[2].body, requests[0].body);

  std::istringstream bad("{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n");
  try {
    read_requests(bad, "rows.jsonl", {}, 9);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rows.jsonl:2: a request is a JSON object"));
  }
  std::istringstream empty("\n");
  EXPECT_THROW(read_requests(empty, "rows.jsonl", {}, 9), InputError);
}

TEST(ServeLoad, SendsAtRandomTimesOfTheRate) {
  ServeLoad load;
  std::vector<LoadRequest> requests(20000);
  set_times(load, requests);
  EXPECT_EQ(requests.back().at.count(), 0);
  load.request_rate = 50;
  set_times(load, requests);
  double squares = 0;
  for (std::size_t i = 1; i < requests.size(); ++i) {
    const double gap = (requests[i].at - requests[i - 1].at).count();
    ASSERT_GE(gap, 0);
    squares += gap * gap;
  }
  EXPECT_EQ(requests.front().at.count(), 0);
  EXPECT_NEAR(requests.back().at.count(), 400, 15);  // five deviations
  EXPECT_NEAR(squares / 19999 * 50 * 50, 2, 0.3);    // of an exponential distribution
}

TEST(ServerAddress, IsReadFromUrls) {
  const auto parts = [](const std::string& url) {
    const ServerAddress server = server_address(url, "");
    return server.host + " " + server.port + " " + server.prefix;
  };
  EXPECT_EQ(parts("http://127.0.0.1:8000"), "127.0.0.1 8000 ");
  EXPECT_EQ(parts("http://host/v1/"), "host 80 ");
  EXPECT_EQ(parts("http://[::1]:99/models/v1"), "::1 99 /models");
  EXPECT_EQ(parts("http://[::1]"), "::1 80 ");
  for (const char* url : {"https://host", "host:8000", "http://", "http://:80", "http://host:"}) {
    EXPECT_THROW(server_address(url, ""), ConfigError) << url;
  }
}

TEST(HttpClient, SaysThatNobodyIsThere) {
  EXPECT_EQ(ask(server_address("http://127.0.0.1:1", ""), "/health").status, 0);
  const std::vector<LoadRequest> requests(2, {"/v1/completions", "{}", {}});
  int polls = 0;
  const auto answers =
      run_load(server_address("http://127.0.0.1:1", ""), requests, {1}, [&polls] { ++polls; });
  ASSERT_EQ(answers.size(), 2U);
  for (const AnswerTimes& answer : answers) EXPECT_THAT(answer.error, HasSubstr("refused"));
  EXPECT_GT(polls, 0);
}

}  // namespace
}  // namespace sluice::launcher
