// Asio is told of io_uring as in offload/disk/disk_engine.cc, though sockets do not use it: its
// inline functions must be the same in all files that have them.
#define BOOST_ASIO_HAS_IO_URING 1

#include "launcher/bench/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

constexpr std::chrono::milliseconds kPoll{50};

using AnswerParser = http::response_parser<http::string_body>;

/// A request as it goes over the wire.
std::string request_text(const ServerAddress& server, const std::string& path,
                         const std::string& body) {
  std::string text =
      fmt::format("{} {}{} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n",
                  body.empty() ? "GET" : "POST", server.prefix, path, server.host, server.port);
  if (!server.api_key.empty()) text += fmt::format("Authorization: Bearer {}\r\n", server.api_key);
  if (!body.empty()) {
    text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  }
  return text + "\r\n" + body;
}

void set_limits(AnswerParser& parser) { parser.body_limit(boost::none); }

/// A request on its way. Lives until its answer is told.
class Stream final : public std::enable_shared_from_this<Stream> {
 public:
  using Told = std::function<void(AnswerTimes)>;

  Stream(asio::io_context& io, std::string request, Told told)
      : socket_(io), request_(std::move(request)), told_(std::move(told)) {
    set_limits(parser_);
  }

  void begin(const tcp::resolver::results_type& ends) {
    answer_.emplace(BenchClock::now());
    asio::async_connect(socket_, ends,
                        [self = shared_from_this()](error_code problem, const auto&) {
                          if (problem) return self->end(problem);
                          error_code ignored;
                          self->socket_.set_option(tcp::no_delay(true), ignored);
                          self->write();
                        });
  }

 private:
  void write() {
    asio::async_write(socket_, asio::buffer(request_),
                      [self = shared_from_this()](error_code problem, std::size_t) {
                        if (problem) return self->end(problem);
                        self->read();
                      });
  }

  void read() {
    http::async_read_some(socket_, buffer_, parser_,
                          [self = shared_from_this()](error_code problem, std::size_t) {
                            self->take();
                            if (problem || self->parser_.is_done()) return self->end(problem);
                            self->read();
                          });
  }

  bool is_stream() const {
    return parser_.is_header_done() && parser_.get().result() == http::status::ok;
  }

  /// What has come of the body.
  void take() {
    if (!is_stream()) return;
    std::string& body = parser_.get().body();
    answer_->take(body, BenchClock::now());
    body.clear();
  }

  void end(error_code problem) {
    std::string why;
    if (problem && problem != http::error::end_of_stream) {
      why = problem.message();
    } else if (!parser_.is_header_done()) {
      why = "the server has closed the connection";
    } else if (!is_stream()) {
      why = fmt::format("status {}: {}", parser_.get().result_int(),
                        error_text(parser_.get().body()));
    }
    error_code ignored;
    socket_.close(ignored);
    told_(answer_->end(why));
  }

  tcp::socket socket_;
  const std::string request_;
  const Told told_;
  boost::beast::flat_buffer buffer_;
  AnswerParser parser_;
  std::optional<AnswerReader> answer_;
};

/// All requests of a run, on one thread.
class Load {
 public:
  Load(const ServerAddress& server, const std::vector<LoadRequest>& requests, LoadLimits limits)
      : server_(server),
        requests_(requests),
        at_once_(limits.at_once > 0 ? static_cast<std::size_t>(limits.at_once)
                                    : std::numeric_limits<std::size_t>::max()),
        timer_(io_),
        answers_(requests.size()) {}

  std::vector<AnswerTimes> run(const std::function<void()>& poll) {
    ends_ = tcp::resolver(io_).resolve(server_.host, server_.port);
    begin_ = BenchClock::now();
    send_due();
    while (done_ < requests_.size()) {
      io_.restart();
      io_.run_for(kPoll);
      poll();
    }
    return std::move(answers_);
  }

 private:
  BenchClock::time_point time_of(std::size_t request) const {
    return begin_ + std::chrono::duration_cast<BenchClock::duration>(requests_[request].at);
  }

  /// Sends what is due and has room, and sets the timer for the next.
  void send_due() {
    while (next_ < requests_.size() && next_ - done_ < at_once_) {
      if (time_of(next_) > BenchClock::now()) {
        timer_.expires_at(time_of(next_));
        timer_.async_wait([this](error_code problem) {
          if (!problem) send_due();
        });
        return;
      }
      send(next_++);
    }
  }

  void send(std::size_t place) {
    const LoadRequest& request = requests_[place];
    auto stream = std::make_shared<Stream>(io_, request_text(server_, request.path, request.body),
                                           [this, place](AnswerTimes times) {
                                             answers_[place] = std::move(times);
                                             ++done_;
                                             send_due();
                                           });
    stream->begin(ends_);
  }

  const ServerAddress& server_;
  const std::vector<LoadRequest>& requests_;
  const std::size_t at_once_;
  asio::io_context io_{1};
  asio::steady_timer timer_;
  tcp::resolver::results_type ends_;
  BenchClock::time_point begin_;
  std::vector<AnswerTimes> answers_;
  std::size_t next_ = 0;  // the first that is not sent
  std::size_t done_ = 0;
};

}  // namespace

ServerAddress server_address(const std::string& url, const std::string& api_key) {
  constexpr std::string_view scheme = "http://";
  const auto refuse = [&](const char* why) {
    throw ConfigError(fmt::format("--url {}: {}; write http://HOST:PORT", url, why));
  };
  if (!url.starts_with(scheme)) refuse("only http is spoken");
  std::string rest = url.substr(scheme.size());
  while (rest.ends_with('/')) rest.pop_back();
  if (rest.ends_with("/v1")) rest.resize(rest.size() - 3);
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string host = rest.substr(0, slash);
  ServerAddress server{"", "80", rest.substr(slash), api_key};
  const std::size_t colon = host.rfind(':');
  if (colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    server.port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || server.port.empty()) refuse("no host, or no port");
  server.host = std::move(host);
  return server;
}

HttpAnswer ask(const ServerAddress& server, const std::string& path, const std::string& body) {
  try {
    asio::io_context io;
    tcp::socket socket(io);
    asio::connect(socket, tcp::resolver(io).resolve(server.host, server.port));
    asio::write(socket, asio::buffer(request_text(server, path, body)));
    boost::beast::flat_buffer buffer;
    AnswerParser parser;
    set_limits(parser);
    http::read(socket, buffer, parser);
    return {static_cast<int>(parser.get().result_int()), parser.get().body()};
  } catch (const boost::system::system_error& problem) {
    return {0, problem.code().message()};
  }
}

std::vector<AnswerTimes> run_load(const ServerAddress& server,
                                  const std::vector<LoadRequest>& requests, LoadLimits limits,
                                  const std::function<void()>& poll) {
  try {
    return Load(server, requests, limits).run(poll);
  } catch (const boost::system::system_error& problem) {
    throw IoError(fmt::format("{}:{}: cannot be reached: {}", server.host, server.port,
                              problem.code().message()));
  }
}

}  // namespace sluice::launcher
