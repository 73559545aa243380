// The head's job of a server: requests come while it runs, and leave when their clients do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "launcher/jobs/journal.h"
#include "launcher/jobs/row_work.h"
#include "launcher/serve/batch_room.h"
#include "stage/request.h"

namespace sluice::launcher {

/// One client's request: some rows, whose answers it takes. Its functions are called by the head's
/// thread, one at a time, and must be short. After on_failed(), and after ServeJob::drop(), nothing
/// more is called.
class Exchange {
 public:
  virtual ~Exchange() = default;

  /// The first of its requests has a place.
  virtual void on_begin() = 0;
  /// Answer `part` of the row at `place` has got a token, or is finished without one.
  virtual void on_token(const RowWork& work, std::size_t place, std::size_t part) = 0;
  /// All answers of the row are finished.
  virtual void on_row_done(std::size_t place, std::unique_ptr<RowWork> work) = 0;
  virtual void on_failed(const std::string& why) = 0;
};

struct ServeLimits {
  std::size_t requests = 1024;    // that wait for a place
  std::size_t tokens = 16 << 20;  // of prompts that wait, where more than one request does
};

/// Whose a request is.
enum class Urgency : std::uint8_t {
  live,   // a client waits
  batch,  // it fills places that live requests leave empty, and steps back for them (batch_room.h)
};

class ServeJob : public stage::Job {
 public:
  enum class Admission : std::uint8_t { taken, full, draining };
  struct Load {
    std::size_t waiting = 0;  // live requests without a place
    std::size_t running = 0;  // live requests with one
    std::size_t batch = 0;    // requests of batches, with a place or without
  };

  /// `tokenizer` must outlive it. `eos`: as Answer has it.
  ServeJob(const Tokenizer& tokenizer, std::int32_t eos, ServeLimits limits)
      : tokenizer_(tokenizer), eos_(eos), limits_(limits) {}

  // Any thread, but not from within an Exchange's functions:

  /// How many requests can have places, and the tokens of a sequence that each has pages for.
  /// Before the first request of a batch.
  void set_places(std::size_t places, std::int64_t tokens);
  /// Answers of batches are kept there while they are made, and begin behind the tokens that it
  /// has of them. It has begun, and must outlive the run. Before the first request of a batch.
  void set_journal(Journal& journal) { journal_ = &journal; }

  /// The limits are for live requests.
  Admission submit(const std::shared_ptr<Exchange>& exchange, std::vector<RequestRow> rows,
                   Urgency urgency = Urgency::live);
  /// Its places and pages are free when the passes under way with them are back.
  void drop(const Exchange& exchange);
  /// Nothing further is taken, and batches are dropped. The head ends when all live requests have
  /// ended.
  void drain();
  /// Every live request fails, as on_failed() is told; batches are dropped.
  void fail_all(const std::string& why);
  Load load() const;

  stage::Next next(stage::Request& request) override;
  void on_prompt_token(std::uint64_t id, std::int32_t index,
                       const stage::TokenResult& result) override;
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override;
  void on_embedding(std::uint64_t id, std::span<const float> values) override;
  void on_prompt_done(std::uint64_t id) override;
  void on_failed(std::uint64_t id, const std::string& reason) override;
  void on_cancelled(std::uint64_t id) override;

 private:
  /// A row on its way.
  struct Turn {
    std::unique_ptr<RowWork> work;
    std::shared_ptr<Exchange> exchange;  // null: it was dropped
    std::size_t place = 0;
    Urgency urgency = Urgency::live;
  };
  struct Rows {
    std::vector<std::uint64_t> numbers;  // of its rows that have not ended
    bool begun = false;
    Urgency urgency = Urgency::live;
  };
  /// Rows with requests to hand out.
  struct Queue {
    std::deque<std::uint64_t> stepping;  // beam searches whose next step has begun
    std::deque<std::uint64_t> waiting;   // in their order
    std::deque<std::uint64_t>& first() { return stepping.empty() ? waiting : stepping; }
  };

  Turn& turn_of(std::uint64_t id);
  void begin(Turn& turn);
  std::optional<stage::Request> hand_out(std::deque<std::uint64_t>& queue);
  bool restore(RowWork& work, std::size_t part);
  void forget(const RowWork& work);
  stage::Request go_on(std::uint64_t id);
  bool next_of_batch(stage::Request& request);
  void make_room();
  void drop_batches();
  void end_part(std::uint64_t id);
  void end_row(std::uint64_t number, Turn turn);
  void drop_locked(const Exchange& exchange);
  void drop_row(std::uint64_t number);
  bool may_grow() const;

  const Tokenizer& tokenizer_;
  const std::int32_t eos_;
  const ServeLimits limits_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Turn> turns_;  // by number of the row
  std::unordered_map<const Exchange*, Rows> exchanges_;
  Queue live_;
  Queue batch_;
  std::deque<std::uint64_t> again_;                  // requests of batches that stepped back
  std::unordered_set<std::uint64_t> stepping_back_;  // ... that will, when the head has heard of it
  BatchRoom room_;
  std::uint64_t next_row_ = 0;
  std::size_t waiting_requests_ = 0;  // live ones
  std::size_t waiting_tokens_ = 0;    // of live rows of which no request was handed out
  std::size_t batch_requests_ = 0;
  Journal* journal_ = nullptr;        // the head's thread's; null: none
  std::vector<std::uint32_t> stale_;  // of its rows, that the head's thread is to end
  bool draining_ = false;
};

}  // namespace sluice::launcher
