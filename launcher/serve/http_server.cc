// Asio is told of io_uring as in offload/disk/disk_engine.cc, though sockets do not use it: its
// inline functions must be the same in all files that have them.
#define BOOST_ASIO_HAS_IO_URING 1

#include "launcher/serve/http_server.h"

#include <fmt/format.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/serve/http_connection.h"

namespace sluice::launcher {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

class HttpServer::Impl : public HttpShared {
 public:
  Impl(const std::string& host, std::uint16_t port) : HttpShared(loop_), acceptor_(io), pause_(io) {
    const auto refuse = [&](const std::string& why) {
      return ConfigError(
          fmt::format("cannot listen on {} port {}: {}; choose another --port (0: a free one)",
                      host, port, why));
    };
    error_code ec;
    const auto found =
        tcp::resolver(io).resolve(host, fmt::format("{}", port), tcp::resolver::passive, ec);
    if (ec || found.empty()) throw refuse(ec.message());
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor_.bind(endpoint, ec);
    if (!ec) acceptor_.listen(tcp::acceptor::max_listen_connections, ec);
    if (ec) throw refuse(ec.message());
    bound_ = acceptor_.local_endpoint().port();
    const std::string name = endpoint.address().to_string();
    address_ = endpoint.address().is_v6() ? fmt::format("[{}]:{}", name, bound_)
                                          : fmt::format("{}:{}", name, bound_);
  }
  ~Impl() { stop(); }

  void stop() {
    if (!thread_.joinable()) return;
    asio::post(io, [this] { close_all(); });
    work_.reset();
    thread_.join();
  }

  void start() {
    accept();
    thread_ = std::thread([this] { io.run(); });
  }

  void end_soon() {
    asio::post(io, [this] {
      error_code ignored;
      ending = true;
      acceptor_.close(ignored);
      for (const auto& connection : alive()) connection->end_soon();
    });
  }

  void flush(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex);
    idle.wait_for(lock, most, [this] { return unfinished == 0; });
  }

  std::string address_;
  std::uint16_t bound_ = 0;

 private:
  /// Those that are still owned; closing one may end others.
  std::vector<std::shared_ptr<HttpConnection>> alive() {
    std::vector<std::shared_ptr<HttpConnection>> found;
    for (HttpConnection* one : connections) {
      if (auto owned = one->self()) found.push_back(std::move(owned));
    }
    return found;
  }
  void close_all() {
    error_code ignored;
    ending = true;
    acceptor_.close(ignored);
    pause_.cancel();
    for (const auto& connection : alive()) connection->close();
  }
  void accept() {
    acceptor_.async_accept([this](error_code ec, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (ec) return accept_later();  // no file descriptor is left, say
      const bool too_many = connections.size() >= limits.connections;
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      const bool is_v6 = acceptor_.local_endpoint(ignored).address().is_v6();
      const int descriptor = socket.release(ignored);
      if (!ignored) take_connection(*this, descriptor, is_v6)->begin(too_many);
      accept();
    });
  }
  void accept_later() {
    pause_.expires_after(std::chrono::milliseconds(100));
    pause_.async_wait([this](error_code ec) {
      if (!ec && acceptor_.is_open()) accept();
    });
  }

  asio::io_context loop_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{loop_.get_executor()};
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::thread thread_;
};

HttpServer::HttpServer(const std::string& host, std::uint16_t port, HttpLimits limits)
    : impl_(std::make_unique<Impl>(host, port)) {
  impl_->limits = limits;
}
HttpServer::~HttpServer() = default;
const std::string& HttpServer::address() const { return impl_->address_; }
std::uint16_t HttpServer::port() const { return impl_->bound_; }
void HttpServer::serve(HttpHandler& handler) {
  impl_->handler = &handler;
  impl_->start();
}
void HttpServer::stop() noexcept { impl_->stop(); }
void HttpServer::end_soon() noexcept { impl_->end_soon(); }
void HttpServer::flush(std::chrono::milliseconds most) noexcept { impl_->flush(most); }

}  // namespace sluice::launcher
