// The server's limits and deadlines, over real sockets: small ones, so that they are met at once.
#include "launcher/serve/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kShort{200};

/// Answers each request by its body, or keeps the reply where the path says so.
class Handler final : public HttpHandler {
 public:
  std::optional<HttpAnswer> check(const HttpHead&) override { return {}; }
  void handle(HttpHead head, std::string body, std::shared_ptr<HttpReply> reply) override {
    if (head.path == "/forget") return;
    if (head.path != "/keep") return reply->send({200, std::move(body), "text/plain"});
    const std::lock_guard lock(mutex_);
    reply->on_end([this](bool gone) {
      const std::lock_guard inner(mutex_);
      (gone ? left_ : ended_) += 1;
      changed_.notify_all();
    });
    kept_ = std::move(reply);
    changed_.notify_all();
  }
  HttpAnswer refusal(int status, const std::string& sentence) override {
    return {status, sentence, "text/plain"};
  }
  std::vector<std::pair<std::string, std::string>> headers_for(const HttpHead&) override {
    return {};
  }

  std::shared_ptr<HttpReply> take_kept() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return kept_ != nullptr; });
    return std::exchange(kept_, nullptr);
  }
  void wait_until_left() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return left_ == 1; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<HttpReply> kept_;
  int left_ = 0;
  int ended_ = 0;
};

class Client {
 public:
  explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Client() { leave(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(const std::string& text) {
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  /// What comes until the other side ends.
  std::string read_all() {
    std::string all;
    char part[4096];
    for (ssize_t bytes = 0; (bytes = ::recv(socket_, part, sizeof part, 0)) > 0;) {
      all.append(part, static_cast<std::size_t>(bytes));
    }
    return all;
  }
  void leave() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }

 private:
  int socket_;
};

std::string post(const std::string& path, const std::string& body, const char* more = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + more + "\r\n" + body;
}

class HttpServerTest : public testing::Test {
 protected:
  HttpServer& serve(const HttpLimits& limits = {}) {
    server = std::make_unique<HttpServer>("127.0.0.1", 0, limits);
    server->serve(handler);
    return *server;
  }
  /// What the server says to these bytes, until it ends the connection.
  std::string said_to(const std::string& bytes) {
    Client client(server->port());
    client.send(bytes);
    return client.read_all();
  }

  Handler handler;
  std::unique_ptr<HttpServer> server;
};

TEST_F(HttpServerTest, SlowHeadersAndBodiesAreGivenUp) {
  HttpLimits limits;
  limits.header = limits.body = limits.idle = kShort;
  serve(limits);
  EXPECT_TRUE(said_to("POST / HTT").starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(
      said_to("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").starts_with("HTTP/1.1 408 "));
  EXPECT_EQ(said_to(""), "");
  EXPECT_TRUE(said_to(post("/", "abc")).ends_with("\r\n\r\nabc"));  // then idle for too long
}

TEST_F(HttpServerTest, MoreThanTheLimitsIsRefused) {
  HttpLimits limits;
  limits.header_bytes = 200;
  limits.body_bytes = 100;
  limits.linger = kShort;
  serve(limits);
  EXPECT_TRUE(said_to("GET /" + std::string(300, 'a')).starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(said_to(post("/", std::string(101, 'a'))).starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(
      said_to("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + std::string(101, 'a'))
          .starts_with("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, AllBodiesTogetherHaveALimit) {
  HttpLimits limits;
  limits.all_body_bytes = 60;
  limits.linger = kShort;
  serve(limits);
  EXPECT_TRUE(said_to(post("/", std::string(61, 'a'))).starts_with("HTTP/1.1 503 "));
  const std::string close = "Connection: close\r\n";
  EXPECT_TRUE(said_to(post("/", std::string(60, 'a'), close.c_str())).starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, FurtherConnectionsAreToldSo) {
  HttpLimits limits;
  limits.connections = 1;
  serve(limits);
  Client first(server->port());
  first.send(post("/keep", ""));
  const auto reply = handler.take_kept();
  EXPECT_TRUE(said_to("").starts_with("HTTP/1.1 503 "));
  reply->send({200, "x", "text/plain"});
}

TEST_F(HttpServerTest, AClientThatLeavesIsSeenThoughNothingIsWritten) {
  serve();
  Client client(server->port());
  client.send(post("/keep", "a"));
  const auto reply = handler.take_kept();
  client.leave();
  handler.wait_until_left();
  reply->send({200, "late", "text/plain"});  // which nobody reads
}

TEST_F(HttpServerTest, AStreamIsChunksThatComeAsTheyAreMade) {
  serve();
  Client client(server->port());
  client.send(post("/keep", "a", "Connection: close\r\n"));
  const auto reply = handler.take_kept();
  reply->begin_stream();
  reply->event("one");
  reply->event("two");
  reply->end_stream();
  const std::string said = client.read_all();
  EXPECT_NE(said.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_TRUE(said.ends_with("\r\n\r\nb\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n"))
      << said;
}

TEST_F(HttpServerTest, AReaderThatTakesNothingIsLeft) {
  HttpLimits limits;
  limits.unsent_bytes = 1000;
  serve(limits);
  Client client(server->port());
  client.send(post("/keep", "a"));
  const auto reply = handler.take_kept();
  reply->begin_stream();
  const std::string large(1 << 20, 'x');
  for (int i = 0; i < 64; ++i) reply->event(large);  // more than sockets hold
  handler.wait_until_left();
}

TEST_F(HttpServerTest, AnAnswerThatIsForgottenIsAnError) {
  serve();
  EXPECT_TRUE(said_to(post("/forget", "", "Connection: close\r\n")).starts_with("HTTP/1.1 500 "));
}

TEST_F(HttpServerTest, EndingSoonCompletesAnswersUnderWay) {
  serve();
  Client idle(server->port());
  Client client(server->port());
  client.send(post("/keep", "a"));
  const auto reply = handler.take_kept();
  server->end_soon();
  EXPECT_EQ(idle.read_all(), "");
  reply->send({200, "last", "text/plain"});
  server->flush(milliseconds(60'000));
  const std::string said = client.read_all();
  EXPECT_TRUE(said.ends_with("\r\n\r\nlast")) << said;
  EXPECT_NE(said.find("Connection: close"), std::string::npos);
}

TEST_F(HttpServerTest, APortThatIsTakenIsNamed) {
  serve();
  try {
    HttpServer second("127.0.0.1", server->port());
    FAIL() << "it listens";
  } catch (const ConfigError& problem) {
    EXPECT_NE(std::string(problem.what()).find(std::to_string(server->port())), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice::launcher
