// The batches of the clients, in a folder: FOLDER/batches/ID.json, and while one runs its results.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "launcher/serve/batch.h"

namespace sluice::launcher {

constexpr std::size_t kMostBatches = 10'000;   // that are kept
constexpr std::size_t kMostOpenBatches = 100;  // ... of which so many have not ended

/// Any thread.
class BatchStore {
 public:
  /// Finds the batches of earlier runs. `folder`: that of a FileStore, which is locked.
  explicit BatchStore(const std::filesystem::path& folder);

  /// Throws ApiError where there are too many; IoError, CapacityError.
  Batch add(const std::string& endpoint, const std::string& input_file, Json metadata);
  std::optional<Batch> find(const std::string& id) const;
  /// The newest first.
  std::vector<Batch> list() const;
  /// The oldest that has not ended.
  std::optional<Batch> next() const;
  /// A batch that has not ended and has this file as its input.
  std::optional<Batch> user_of(const std::string& file) const;

  /// Changes the batch, in memory and on the disk. Returns what it is then. Pre: it is there.
  Batch change(const std::string& id, const std::function<void(Batch&)>& edit);
  /// What keeps a batch from going on; empty: nothing. In memory alone.
  void show_problem(const std::string& id, const std::string& problem);
  /// In memory alone: the results' lines say as much.
  void count(const std::string& id, const Batch::Counts& counts);

  /// Where its results grow.
  std::filesystem::path output_of(const std::string& id) const;
  std::filesystem::path errors_of(const std::string& id) const;

 private:
  void write(const Batch& batch) const;

  const std::filesystem::path folder_;
  mutable std::mutex mutex_;
  std::map<std::string, Batch> batches_;
  std::vector<std::string> order_;  // of their ids, the oldest first
};

}  // namespace sluice::launcher
