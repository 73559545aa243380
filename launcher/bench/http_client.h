// Asks a server over HTTP: single questions, and many streams at a time on one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "launcher/bench/answer_times.h"

namespace sluice::launcher {

struct ServerAddress {
  std::string host;
  std::string port;
  std::string prefix;   // of every path: "" or "/somewhere"
  std::string api_key;  // empty: none
};

/// Of "http://HOST:PORT", with or without "/v1" behind it. Throws ConfigError.
ServerAddress server_address(const std::string& url, const std::string& api_key);

struct HttpAnswer {
  int status = 0;  // 0: the server was not reached
  std::string body;
};

/// One question, on a connection of its own. An empty body is a GET, any other a POST of JSON.
HttpAnswer ask(const ServerAddress& server, const std::string& path, const std::string& body = {});

struct LoadRequest {
  std::string path;
  std::string body;                  // asks for a stream
  std::chrono::duration<double> at;  // after the beginning; or later, where others hold it up
};

struct LoadLimits {
  std::int32_t at_once = 0;  // most requests under way; 0: any number
};

/// Sends the requests, which stand in the order of their times, each on a connection of its own,
/// and reads their answers: one for each request, in their order. A request that fails harms no
/// other. `poll` is called about twenty times a second, and may throw to end it all.
std::vector<AnswerTimes> run_load(const ServerAddress& server,
                                  const std::vector<LoadRequest>& requests, LoadLimits limits,
                                  const std::function<void()>& poll);

}  // namespace sluice::launcher
