// A client's connection, from its first byte to its last: the server's own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "launcher/serve/http_server.h"
#include "launcher/serve/http_types.h"

namespace boost::asio {
class io_context;
}

namespace sluice::launcher {

/// Each owns itself while it waits for something. On the server's thread.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  /// `too_many`: it is told so, and ends.
  virtual void begin(bool too_many) = 0;
  /// Ends where no answer is under way; else with that answer.
  virtual void end_soon() = 0;
  virtual void close() = 0;
  virtual std::shared_ptr<HttpConnection> self() = 0;
};

/// What the connections of a server share. Of its thread, but for unfinished().
struct HttpShared {
  explicit HttpShared(boost::asio::io_context& loop) : io(loop) {}

  boost::asio::io_context& io;
  HttpLimits limits = {};
  HttpHandler* handler = nullptr;
  std::unordered_set<HttpConnection*> connections = {};
  std::size_t body_bytes = 0;  // that are being read
  bool ending = false;

  std::mutex mutex = {};
  std::condition_variable idle = {};
  std::size_t unfinished = 0;  // answers that are not written yet; under the mutex

  void add_unfinished(std::ptrdiff_t change) {
    const std::lock_guard lock(mutex);
    unfinished += static_cast<std::size_t>(change);
    if (unfinished == 0) idle.notify_all();
  }
};

/// Owns the descriptor `socket`.
std::shared_ptr<HttpConnection> take_connection(HttpShared& shared, int socket, bool is_v6);

}  // namespace sluice::launcher
