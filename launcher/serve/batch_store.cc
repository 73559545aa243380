#include "launcher/serve/batch_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/report/report_file.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/file_store.h"

namespace sluice::launcher {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kWindowSeconds = 24 * 60 * 60;

std::optional<Batch> read_batch(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  try {
    Batch batch = batch_of(Json::parse(text));
    return batch.id == path.stem() ? std::optional(std::move(batch)) : std::nullopt;
  } catch (const JsonError&) {
    return {};
  }
}

}  // namespace

BatchStore::BatchStore(const fs::path& folder) : folder_(folder / "batches") {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    throw ConfigError(fmt::format("--files-dir {}: no folder can be made in it: {}",
                                  folder.string(), error.message()));
  }
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() != ".json") continue;
    auto batch = read_batch(entry.path());
    if (!batch) continue;
    order_.push_back(batch->id);
    batches_.emplace(batch->id, std::move(*batch));
  }
  std::ranges::sort(order_, [this](const std::string& left, const std::string& right) {
    return std::pair(batches_.at(left).created, left) <
           std::pair(batches_.at(right).created, right);
  });
}

Batch BatchStore::add(const std::string& endpoint, const std::string& input_file, Json metadata) {
  Batch batch;
  batch.id = random_id("batch");
  batch.endpoint = endpoint;
  batch.input_file = input_file;
  batch.metadata = std::move(metadata);
  batch.created = unix_seconds();
  batch.expires = batch.created + kWindowSeconds;
  const std::lock_guard lock(mutex_);
  const auto open =
      std::ranges::count_if(batches_, [](const auto& one) { return !one.second.has_ended(); });
  if (static_cast<std::size_t>(open) >= kMostOpenBatches) {
    throw ApiError{429, fmt::format("{} batches have not ended; the server takes no more for now",
                                    kMostOpenBatches)};
  }
  if (batches_.size() >= kMostBatches) {
    throw ApiError{400, fmt::format("the server keeps {} batches, and takes no more; remove some "
                                    "of its --files-dir while it does not run",
                                    kMostBatches)};
  }
  write(batch);
  batches_[batch.id] = batch;
  order_.push_back(batch.id);
  return batch;
}

std::optional<Batch> BatchStore::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = batches_.find(id);
  return found == batches_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Batch> BatchStore::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Batch> batches;
  for (auto id = order_.rbegin(); id != order_.rend(); ++id) batches.push_back(batches_.at(*id));
  return batches;
}

std::optional<Batch> BatchStore::next() const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(
      order_, [this](const std::string& id) { return !batches_.at(id).has_ended(); });
  return found == order_.end() ? std::nullopt : std::optional(batches_.at(*found));
}

std::optional<Batch> BatchStore::user_of(const std::string& file) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(batches_, [&file](const auto& one) {
    return one.second.input_file == file && !one.second.has_ended();
  });
  return found == batches_.end() ? std::nullopt : std::optional(found->second);
}

Batch BatchStore::change(const std::string& id, const std::function<void(Batch&)>& edit) {
  const std::lock_guard lock(mutex_);
  Batch changed = batches_.at(id);
  edit(changed);
  write(changed);
  batches_.at(id) = changed;
  return changed;
}

void BatchStore::show_problem(const std::string& id, const std::string& problem) {
  const std::lock_guard lock(mutex_);
  batches_.at(id).problem = problem;
}

void BatchStore::count(const std::string& id, const Batch::Counts& counts) {
  const std::lock_guard lock(mutex_);
  batches_.at(id).counts = counts;
}

fs::path BatchStore::output_of(const std::string& id) const {
  return folder_ / fmt::format("{}.output.jsonl", id);
}

fs::path BatchStore::errors_of(const std::string& id) const {
  return folder_ / fmt::format("{}.errors.jsonl", id);
}

void BatchStore::write(const Batch& batch) const {
  write_report_file(folder_ / fmt::format("{}.json", batch.id), kept_json(batch).dump() + '\n');
}

}  // namespace sluice::launcher
