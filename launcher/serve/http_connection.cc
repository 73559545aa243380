// Boost.Beast reads requests here; answers are written by hand, as they have few forms.
//
// Asio is told of io_uring as in offload/disk/disk_engine.cc, though sockets do not use it: its
// inline functions must be the same in all files that have them.
#define BOOST_ASIO_HAS_IO_URING 1

#include "launcher/serve/http_connection.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <deque>
#include <functional>
#include <utility>

#include "launcher/serve/end_of_answer.h"
#include "launcher/serve/http_text.h"

namespace sluice::launcher {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

/// A client, from its first byte to its last: reads a request, hands it on, writes the answer, and
/// reads the next. Meanwhile it goes on reading, to see the client leave.
class Connection final : public HttpConnection, public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpShared& shared, tcp::socket socket)
      : shared_(shared),
        socket_(std::move(socket)),
        read_timer_(shared.io),
        write_timer_(shared.io) {
    shared_.connections.insert(this);
  }
  ~Connection() override {
    forget_body();
    shared_.connections.erase(this);
  }

  void begin(bool too_many) override {
    read_by(shared_.limits.header);
    if (too_many) return refuse(503, "the server has as many connections as it takes; try again");
    read();
  }

  // The answer's, by number of the request; a late one is passed over:

  void send(std::uint64_t number, const HttpAnswer& answer) {
    if (!is_answering(number)) return;
    if (streaming_) return close();  // nothing but a lost connection tells that the stream is torn
    write(head_of(answer, answer.body.size()) + (head_only_ ? std::string() : answer.body));
    finish_answer();
  }
  void begin_stream(std::uint64_t number) {
    if (!is_answering(number) || streaming_) return;
    streaming_ = true;
    if (!chunked_) keep_ = false;
    HttpAnswer answer;
    answer.type = "text/event-stream";
    answer.headers.emplace_back("Cache-Control", "no-cache");
    write(head_of(answer, {}));
  }
  void event(std::uint64_t number, const std::string& text) {
    if (!is_answering(number) || !streaming_) return;
    write(chunked_ ? chunk_of(text) : text);
    if (unsent_ > shared_.limits.unsent_bytes) close();
  }
  void end_stream(std::uint64_t number) {
    if (!is_answering(number) || !streaming_) return;
    if (chunked_) write("0\r\n\r\n");
    finish_answer();
  }

  /// Ends where no answer is under way; else with that answer.
  void end_soon() override {
    keep_ = false;
    if (phase_ == Phase::idle) close();
  }

  std::shared_ptr<HttpConnection> self() override { return weak_from_this().lock(); }

  void close() override {
    if (phase_ == Phase::closed) return;
    if (phase_ == Phase::answering) shared_.add_unfinished(-1);
    phase_ = Phase::closed;
    forget_body();
    error_code ignored;
    read_timer_.cancel();
    write_timer_.cancel();
    socket_.close(ignored);
    if (end_) std::exchange(end_, nullptr)->tell(true);
  }

 private:
  enum class Phase : std::uint8_t { idle, head, body, answering, lingering, closed };
  using Parser = http::request_parser<http::string_body>;
  static constexpr std::size_t kReadBytes = 64 << 10;

  class Reply;

  bool is_answering(std::uint64_t number) const {
    return phase_ == Phase::answering && number == number_ && !answered_;
  }

  /// The deadline of the present phase.
  void read_by(std::chrono::milliseconds time) {
    read_timer_.expires_after(time);
    read_timer_.async_wait([self = shared_from_this()](error_code ec) {
      if (!ec) self->time_is_over();
    });
  }
  void time_is_over() {
    if (phase_ == Phase::head || phase_ == Phase::body) {
      refuse(408, phase_ == Phase::head ? "the request's header did not come in time"
                                        : "the request's body did not come in time");
    } else if (phase_ != Phase::answering) {
      close();
    }
  }

  void read() {
    if (reading_ || phase_ == Phase::closed) return;
    if (phase_ == Phase::answering && in_.size() >= kReadBytes) return;
    reading_ = true;
    socket_.async_read_some(in_.prepare(kReadBytes),
                            [self = shared_from_this()](error_code ec, std::size_t bytes) {
                              self->reading_ = false;
                              if (ec || bytes == 0) return self->close();
                              self->in_.commit(bytes);
                              if (self->phase_ == Phase::lingering) self->in_.clear();
                              self->parse();
                              self->read();
                            });
  }

  bool is_reading_request() const {
    return phase_ == Phase::idle || phase_ == Phase::head || phase_ == Phase::body;
  }

  /// Takes what has come as far as it makes a request.
  void parse() {
    while (is_reading_request() && in_.size() > 0) {
      if (phase_ == Phase::idle) begin_request();
      error_code ec;
      const std::size_t taken = parser_->put(in_.data(), ec);
      in_.consume(taken);
      if (phase_ == Phase::body && !count_body(taken)) return;
      if (ec == http::error::need_more) {
        if (taken == 0) return;
        continue;
      }
      if (ec) return refuse_bytes(ec);
      if (phase_ == Phase::head && parser_->is_header_done() && !take_head()) return;
      if (parser_->is_done()) return hand_on();
    }
  }

  void begin_request() {
    phase_ = Phase::head;
    if (number_ > 0) read_by(shared_.limits.header);
    ++number_;
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(shared_.limits.header_bytes));
    parser_->body_limit(shared_.limits.body_bytes);
  }

  void refuse_bytes(error_code ec) {
    if (ec == http::error::body_limit) {
      return refuse(413, fmt::format("the request's body is longer than {} bytes; make it shorter",
                                     shared_.limits.body_bytes));
    }
    if (ec == http::error::header_limit) {
      return refuse(431, fmt::format("the request's header is longer than {} bytes",
                                     shared_.limits.header_bytes));
    }
    refuse(400, fmt::format("this is no HTTP request that can be read: {}", ec.message()));
  }

  /// False: the request is refused.
  bool take_head() {
    const auto& request = parser_->get();
    const auto text = [&](http::field name) { return std::string(request[name]); };
    head_ = {std::string(request.method_string()),
             std::string(request.target()),
             path_of(std::string_view(request.target())),
             text(http::field::authorization),
             text(http::field::content_type),
             text(http::field::origin),
             text(http::field::host)};
    head_only_ = head_.method == "HEAD";
    chunked_ = request.version() >= 11;
    keep_ = request.version() >= 11 && request.keep_alive() && !shared_.ending;
    const std::string coding = text(http::field::transfer_encoding);
    if (!coding.empty() && !parser_->chunked()) {
      refuse(501, "Transfer-Encoding: only chunked is understood");
      return false;
    }
    if (auto refused = shared_.handler->check(head_)) {
      refuse(*refused);
      return false;
    }
    phase_ = Phase::body;
    read_by(shared_.limits.body);
    if (!parser_->is_done() && !text(http::field::expect).empty()) {
      write("HTTP/1.1 100 Continue\r\n\r\n");
    }
    return true;
  }

  /// False: too many bodies are being read.
  bool count_body(std::size_t bytes) {
    body_bytes_ += bytes;
    shared_.body_bytes += bytes;
    if (shared_.body_bytes <= shared_.limits.all_body_bytes) return true;
    refuse(503, "the server is reading as many bytes of requests as it may; try again");
    return false;
  }
  void forget_body() { shared_.body_bytes -= std::exchange(body_bytes_, 0); }

  void hand_on();

  void begin_answer() {
    phase_ = Phase::answering;
    answered_ = streaming_ = false;
    read_timer_.cancel();
    shared_.add_unfinished(1);
  }

  /// The answer to a request that was not read to its end: then nothing else can be read.
  void refuse(const HttpAnswer& answer) {
    ++number_;
    keep_ = false;
    begin_answer();
    send(number_, answer);
  }
  void refuse(int status, const std::string& sentence) {
    refuse(shared_.handler->refusal(status, sentence));
  }

  std::string head_of(const HttpAnswer& answer, std::optional<std::size_t> bytes) {
    std::string head = fmt::format("HTTP/1.1 {} {}\r\nServer: sluice\r\nContent-Type: {}\r\n",
                                   answer.status, reason_of(answer.status), answer.type);
    if (bytes) head += fmt::format("Content-Length: {}\r\n", *bytes);
    if (!bytes && chunked_) head += "Transfer-Encoding: chunked\r\n";
    const auto add = [&head](const auto& headers) {
      for (const auto& [name, value] : headers) head += fmt::format("{}: {}\r\n", name, value);
    };
    add(answer.headers);
    add(shared_.handler->headers_for(head_));
    if (!keep_) head += "Connection: close\r\n";
    return head + "\r\n";
  }

  void write(std::string bytes) {
    unsent_ += bytes.size();
    out_.push_back(std::move(bytes));
    if (out_.size() == 1) write_some();
  }
  void write_some() {
    write_timer_.expires_after(shared_.limits.write);
    write_timer_.async_wait([self = shared_from_this()](error_code ec) {
      if (!ec) self->close();
    });
    const std::string& front = out_.front();
    socket_.async_write_some(asio::buffer(front.data() + written_, front.size() - written_),
                             [self = shared_from_this()](error_code ec, std::size_t bytes) {
                               if (self->phase_ == Phase::closed) return;
                               if (ec) return self->close();
                               self->wrote(bytes);
                             });
  }
  void wrote(std::size_t bytes) {
    written_ += bytes;
    unsent_ -= bytes;
    if (written_ == out_.front().size()) {
      out_.pop_front();
      written_ = 0;
    }
    if (!out_.empty()) return write_some();
    write_timer_.cancel();
    if (phase_ == Phase::answering && answered_) end_answer();
  }

  void finish_answer() {
    answered_ = true;
    if (out_.empty()) end_answer();
  }
  /// Every byte of it is written.
  void end_answer() {
    parser_.reset();
    forget_body();
    if (end_) std::exchange(end_, nullptr)->tell(false);
    shared_.add_unfinished(-1);
    if (shared_.ending) keep_ = false;
    if (keep_) {
      phase_ = Phase::idle;
      read_by(shared_.limits.idle);
      // Not from within parse(), which may have called this.
      asio::post(shared_.io, [self = shared_from_this()] {
        self->parse();
        self->read();
      });
      return;
    }
    // A client that still sends would lose the answer if the connection were reset now.
    phase_ = Phase::lingering;
    in_.clear();
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    read_by(shared_.limits.linger);
    read();
  }

  HttpShared& shared_;
  tcp::socket socket_;
  asio::steady_timer read_timer_;
  asio::steady_timer write_timer_;
  boost::beast::flat_buffer in_;
  std::optional<Parser> parser_;
  HttpHead head_;
  Phase phase_ = Phase::idle;
  std::uint64_t number_ = 0;  // of the request
  bool reading_ = false;
  bool keep_ = true;  // the connection goes on behind the answer
  bool head_only_ = false;
  bool chunked_ = true;  // the client understands chunks
  bool streaming_ = false;
  bool answered_ = false;  // all of the answer is in out_
  std::size_t body_bytes_ = 0;
  std::deque<std::string> out_;
  std::size_t written_ = 0;  // of its first
  std::size_t unsent_ = 0;
  std::shared_ptr<EndOfAnswer> end_;
};

/// Brings what any thread says to the server's.
class Connection::Reply final : public HttpReply {
 public:
  explicit Reply(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)),
        number_(connection_->number_),
        end_(std::make_shared<EndOfAnswer>()) {
    connection_->end_ = end_;
  }
  ~Reply() override {
    if (is_over_) {
      // The connection is the server's thread's, also its end.
      asio::io_context& io = connection_->shared_.io;
      asio::post(io, [connection = std::move(connection_)] {});
      return;
    }
    post([number = number_](Connection& connection) {
      connection.send(number, connection.shared_.handler->refusal(500, "nothing was answered"));
    });
  }

  void send(HttpAnswer answer) override {
    is_over_ = true;
    post([number = number_, answer = std::move(answer)](Connection& connection) {
      connection.send(number, answer);
    });
  }
  void begin_stream() override {
    post([number = number_](Connection& connection) { connection.begin_stream(number); });
  }
  void event(std::string_view data) override {
    post([number = number_, text = fmt::format("data: {}\n\n", data)](Connection& connection) {
      connection.event(number, text);
    });
  }
  void end_stream() override {
    is_over_ = true;
    post([number = number_](Connection& connection) { connection.end_stream(number); });
  }
  void on_end(std::function<void(bool)> function) override { end_->set(std::move(function)); }

 private:
  template <class Work>
  void post(Work work) {
    asio::post(connection_->shared_.io,
               [connection = connection_, work = std::move(work)] { work(*connection); });
  }

  std::shared_ptr<Connection> connection_;
  const std::uint64_t number_;
  std::shared_ptr<EndOfAnswer> end_;
  std::atomic<bool> is_over_{false};
};

void Connection::hand_on() {
  begin_answer();
  std::string body = std::move(parser_->get().body());
  shared_.handler->handle(head_, std::move(body), std::make_shared<Reply>(shared_from_this()));
}

}  // namespace

std::shared_ptr<HttpConnection> take_connection(HttpShared& shared, int socket, bool is_v6) {
  return std::make_shared<Connection>(
      shared, tcp::socket(shared.io, is_v6 ? tcp::v6() : tcp::v4(), socket));
}

}  // namespace sluice::launcher
