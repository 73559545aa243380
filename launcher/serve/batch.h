// A batch of requests: what OpenAI's clients see of it, and how it is kept.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/json/json.h"

namespace sluice::launcher {

enum class BatchStatus : std::uint8_t {
  validating,  // it waits for its turn
  in_progress,
  finalizing,  // all lines are answered, and its files become files of the store
  completed,
  failed,  // its input could not be read, or the disk was full
  cancelling,
  cancelled,
  expired,
};

struct Batch {
  struct Counts {
    std::int64_t total = 0;  // lines of the input
    std::int64_t completed = 0;
    std::int64_t failed = 0;
  };

  std::string id;  // "batch_..."
  std::string endpoint;
  std::string input_file;
  BatchStatus status = BatchStatus::validating;
  Json metadata;        // the client's; null: none
  std::string problem;  // of a failed one, or of one that waits for room on a disk
  // Ids of its results in the store. While it runs they are only promised.
  std::string output_file;
  std::string error_file;
  Counts counts;
  // Unix seconds; 0: it has not come to that.
  std::int64_t created = 0;
  std::int64_t begun = 0;
  std::int64_t expires = 0;
  std::int64_t finalizing = 0;
  std::int64_t cancelling = 0;
  std::int64_t ended = 0;  // completed, failed, cancelled or expired

  bool has_ended() const;
};

constexpr const char* kBatchWindow = "24h";  // OpenAI's only completion_window

/// OpenAI's object. File ids are null until the batch has ended.
Json batch_json(const Batch& batch);

/// With all that is needed to go on with it.
Json kept_json(const Batch& batch);
/// Throws JsonError.
Batch batch_of(const Json& kept);

}  // namespace sluice::launcher
