// What an HTTP request says, and how it is answered: without a word of the library that speaks it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::launcher {

struct HttpAnswer {
  int status = 200;
  std::string body;
  std::string type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// A request's first part. Its texts are the client's, and may have any bytes.
struct HttpHead {
  std::string method;  // "POST"
  std::string target;  // "/v1/models?x=1"
  std::string path;    // "/v1/models": the target without its query, percent signs undone
  std::string authorization;
  std::string content_type;
  std::string origin;
  std::string host;
};

/// Where the answer to one request goes. Any thread; calls come in order. After the client has
/// left nothing happens. One that is destroyed before it was answered answers with status 500.
class HttpReply {
 public:
  virtual ~HttpReply() = default;

  /// The whole answer.
  virtual void send(HttpAnswer answer) = 0;
  /// Or a stream of events: this first, then event() for each, then end_stream().
  virtual void begin_stream() = 0;
  /// `data` has no line ends.
  virtual void event(std::string_view data) = 0;
  virtual void end_stream() = 0;

  /// `function` runs once: when the last byte has been handed to the system, or the client has left
  /// (`gone`), maybe at once. It runs on the server's thread, or on this one.
  virtual void on_end(std::function<void(bool gone)> function) = 0;

  /// Of a line of a batch, for which nobody waits, its name: the same whenever it is asked for.
  virtual std::string line_name() const { return {}; }
  bool is_of_batch() const { return !line_name().empty(); }
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;

  // On the server's thread, which must not be held up:

  /// Looks at a request before its body is read. An answer refuses it, and the connection ends.
  virtual std::optional<HttpAnswer> check(const HttpHead& head) = 0;
  virtual void handle(HttpHead head, std::string body, std::shared_ptr<HttpReply> reply) = 0;
  /// What the HTTP itself refuses: 400, 408, 413, 431, 503.
  virtual HttpAnswer refusal(int status, const std::string& sentence) = 0;
  /// Headers that every answer to this request has besides.
  virtual std::vector<std::pair<std::string, std::string>> headers_for(const HttpHead& head) = 0;
};

}  // namespace sluice::launcher
