#include "launcher/bench/serve_load.h"

#include <fmt/format.h>

#include <cmath>
#include <istream>
#include <random>
#include <string>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

namespace {

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChats = "/v1/chat/completions";

using Random = std::mt19937_64;

/// The streams of numbers of one seed.
Random random_of(std::uint64_t seed, std::uint64_t stream) {
  std::seed_seq words{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U),
                      static_cast<std::uint32_t>(stream),
                      static_cast<std::uint32_t>(stream >> 32U)};
  return Random(words);
}

Json random_ids(std::span<const std::int32_t> ids, std::int32_t count, Random& random) {
  Json list = Json::array();
  for (std::int32_t i = 0; i < count; ++i) list.push_back(ids[random() % ids.size()]);
  return list;
}

/// Streams, and counts tokens.
void add_stream(Json& body) {
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
}

}  // namespace

std::vector<LoadRequest> made_up_requests(std::span<const std::int32_t> ids,
                                          const BenchShape& shape, const ServeLoad& load,
                                          std::int32_t first, std::int32_t count) {
  std::vector<LoadRequest> requests;
  for (std::int32_t number = first; number < first + count; ++number) {
    Random shared = random_of(load.seed, 0);
    Random own = random_of(load.seed, 1 + static_cast<std::uint64_t>(number));
    Json prompt = random_ids(ids, load.prefix, shared);
    for (const Json& id : random_ids(ids, shape.prompt - load.prefix, own)) prompt.push_back(id);
    Json body = {{"prompt", std::move(prompt)},
                 {"max_tokens", shape.answer},
                 {"temperature", 0},
                 {"ignore_eos", true}};
    add_stream(body);
    requests.push_back({kCompletions, body.dump(), {}});
  }
  return requests;
}

std::vector<LoadRequest> read_requests(std::istream& lines, const std::string& file,
                                       const BenchShape& shape, std::int32_t count) {
  std::vector<LoadRequest> requests;
  std::string line;
  for (std::int64_t number = 1; std::ssize(requests) < count && std::getline(lines, line);
       ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Json body = Json::parse_or_null(line);
    const bool is_chat = body.contains("messages");
    if (!is_chat && !body.contains("prompt")) {
      throw InputError(
          fmt::format("{}:{}: a request is a JSON object with a prompt or messages", file, number));
    }
    const bool has_length = body.contains("max_tokens") || body.contains("max_completion_tokens");
    if (!has_length) body["max_tokens"] = shape.answer;
    add_stream(body);
    requests.push_back({is_chat ? kChats : kCompletions, body.dump(), {}});
  }
  if (requests.empty()) throw InputError(fmt::format("{}: has no request", file));
  for (std::size_t i = 0; std::ssize(requests) < count; ++i) requests.push_back(requests[i]);
  return requests;
}

void set_times(const ServeLoad& load, std::vector<LoadRequest>& requests) {
  Random random = random_of(load.seed, UINT64_MAX);
  double at = 0;
  for (LoadRequest& request : requests) {
    request.at = std::chrono::duration<double>(at);
    if (load.request_rate == 0) continue;
    const double share = static_cast<double>(random() >> 11U) * 0x1.0p-53;  // of [0, 1)
    at -= std::log1p(-share) / load.request_rate;
  }
}

}  // namespace sluice::launcher
