// HTTP/1.1 over TCP, on one thread of its own: connections, limits, deadlines, streams of events.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "launcher/serve/http_types.h"

namespace sluice::launcher {

struct HttpLimits {
  std::size_t header_bytes = 16 << 10;
  std::size_t body_bytes = 32 << 20;
  std::size_t all_body_bytes = std::size_t{512} << 20;  // that are being read, of all connections
  std::size_t unsent_bytes = 4 << 20;  // of a stream: a reader that is slower loses its place
  std::size_t connections = 1024;
  std::chrono::milliseconds header{
      30'000};  // from the first byte, or from the connection's beginning
  std::chrono::milliseconds body{60'000};    // in all
  std::chrono::milliseconds idle{120'000};   // between two requests
  std::chrono::milliseconds write{30'000};   // without a byte that the client takes
  std::chrono::milliseconds linger{10'000};  // after an answer that ends the connection
};

class HttpServer {
 public:
  /// Listens, so that clients may connect from here on; serve() answers them. `port` 0: a free one.
  /// Throws ConfigError naming address and port, where that cannot be had.
  HttpServer(const std::string& host, std::uint16_t port, HttpLimits limits = {});
  /// As stop(). Replies must have gone.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// "127.0.0.1:8000", "[::1]:8000".
  const std::string& address() const;
  std::uint16_t port() const;

  /// Starts the thread. `handler` must outlive the server.
  void serve(HttpHandler& handler);

  /// No further connections, and those there are end with the answers under way. Any thread.
  void end_soon() noexcept;
  /// Waits until every answer under way is written, for at most so long. Not on the server's
  /// thread.
  void flush(std::chrono::milliseconds most) noexcept;
  /// Ends every connection at once, and the thread. Replies may still be held, and do nothing.
  void stop() noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::launcher
