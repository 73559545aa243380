// A run of this same program as a child process, over some ranks.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/json/json.h"

namespace sluice::launcher {

/// A folder that goes with its owner.
class TemporaryFolder {
 public:
  /// In $TMPDIR, or where that is not set /tmp. Throws IoError.
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// All of a file; empty where it cannot be read.
std::string text_of(const std::filesystem::path& file);

/// The last line of `text` that is sluice's own, without its name; else the last of all.
std::string last_words(const std::string& text);

/// Throws Error where `signal` is one that ends this process: ExitStatus::stopped, or 128 + its
/// number where it is not SIGTERM or SIGUSR1. SIGCHLD, and none, do nothing.
void throw_on_signal(std::optional<int> signal);

/// Runs `sluice generate` with `words` over `ranks` of this host, its files in `folder`, and
/// returns its report. Throws Error with the run's exit status and what it said last.
Json run_generate(int ranks, const std::vector<std::string>& words,
                  const std::filesystem::path& folder);

}  // namespace sluice::launcher
