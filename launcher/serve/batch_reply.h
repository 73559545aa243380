// Where the answers to a batch's lines go, in place of a client's connection.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/serve/end_of_answer.h"
#include "launcher/serve/http_types.h"

namespace sluice::launcher {

/// Answers that wait to be written. Any thread.
class BatchAnswers {
 public:
  struct One {
    std::int64_t line = 0;
    std::optional<HttpAnswer> answer;  // nothing: the request was dropped unanswered
  };

  void add(One one) {
    {
      const std::lock_guard lock(mutex_);
      answers_.push_back(std::move(one));
    }
    came_.notify_all();
  }
  /// wait_until() returns soon.
  void wake() {
    {
      const std::lock_guard lock(mutex_);
      woken_ = true;
    }
    came_.notify_all();
  }
  /// Those that have come. Waits for one, for wake() or for that time.
  std::vector<One> take(std::chrono::system_clock::time_point until) {
    std::unique_lock lock(mutex_);
    came_.wait_until(lock, until, [this] { return woken_ || !answers_.empty(); });
    woken_ = false;
    return std::exchange(answers_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<One> answers_;
  bool woken_ = false;
};

class BatchReply final : public HttpReply {
 public:
  /// `name`: of the batch and of its line.
  BatchReply(std::shared_ptr<BatchAnswers> answers, std::int64_t line, std::string name)
      : answers_(std::move(answers)), line_(line), name_(std::move(name)) {}
  ~BatchReply() override {
    if (!answered_) answers_->add({line_, {}});
  }

  void send(HttpAnswer answer) override {
    answered_ = true;
    answers_->add({line_, std::move(answer)});
    end_.tell(false);
  }
  // Lines that ask for a stream are refused before.
  void begin_stream() override {}
  void event(std::string_view) override {}
  void end_stream() override {}
  void on_end(std::function<void(bool gone)> function) override { end_.set(std::move(function)); }

  std::string line_name() const override { return name_; }

  /// As a client that leaves.
  void leave() { end_.tell(true); }

 private:
  const std::shared_ptr<BatchAnswers> answers_;
  const std::int64_t line_;
  const std::string name_;
  EndOfAnswer end_;
  std::atomic<bool> answered_{false};
};

}  // namespace sluice::launcher
