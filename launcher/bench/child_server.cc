#include "launcher/bench/child_server.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/bench/child_run.h"
#include "launcher/launch/mpirun_line.h"

namespace sluice::launcher {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll{20};
constexpr std::chrono::seconds kEnd{45};  // a server gives the answers under way 30

std::vector<std::string> command_of(int ranks, const std::vector<std::string>& words) {
  std::vector<std::string> all = {"serve", "--port", "0"};
  all.insert(all.end(), words.begin(), words.end());
  RankStart start;
  start.ranks = ranks;
  start.is_root = ::geteuid() == 0;
  return rank_command(start, own_program(), all);
}

/// What the server has said of where it listens; empty: nothing yet.
std::string url_in(const std::string& said) {
  constexpr std::string_view words = "sluice: listening on ";
  const std::size_t found = said.find(words);
  const std::size_t end = said.find('\n', found);
  if (found == std::string::npos || end == std::string::npos) return {};
  const std::size_t begin = found + words.size();
  return said.substr(begin, said.find_first_of("\r\n", begin) - begin);
}

}  // namespace

ChildServer::ChildServer(int ranks, const std::vector<std::string>& words,
                         std::filesystem::path log, HeldSignals& signals)
    : log_(std::move(log)), signals_(signals), child_(command_of(ranks, words), signals, log_) {
  while (url_.empty()) {
    check();
    throw_on_signal(signals_.wait(kPoll));
    url_ = url_in(text_of(log_));
  }
}

ChildServer::~ChildServer() {
  child_.send(SIGUSR1);  // which mpirun hands on
  const auto deadline = std::chrono::steady_clock::now() + kEnd;
  while (!child_.end() && std::chrono::steady_clock::now() < deadline) signals_.wait(kPoll);
}

void ChildServer::check() {
  const auto status = child_.end();
  if (!status) return;
  const auto exit =
      *status > 128 || *status == 0 ? ExitStatus::failure : static_cast<ExitStatus>(*status);
  throw Error(exit, fmt::format("the server has ended: {}", last_words(text_of(log_))));
}

}  // namespace sluice::launcher
