// A server of this same program as a child process, over some ranks.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launcher/process/child_process.h"

namespace sluice::launcher {

/// Ends with its owner.
class ChildServer {
 public:
  /// Starts `sluice serve` with `words` on a free port of the loopback, its output in `log`, and
  /// waits until it listens. `signals` must outlive it. Throws as check().
  ChildServer(int ranks, const std::vector<std::string>& words, std::filesystem::path log,
              HeldSignals& signals);
  ~ChildServer();
  ChildServer(const ChildServer&) = delete;
  ChildServer& operator=(const ChildServer&) = delete;

  const std::string& url() const { return url_; }

  /// Throws Error with the server's exit status and last words where it has ended.
  void check();

 private:
  const std::filesystem::path log_;
  HeldSignals& signals_;
  ChildProcess child_;
  std::string url_;
};

}  // namespace sluice::launcher
