// A job that other threads add to while it runs: what a server is to the head.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "stage/request.h"

namespace sluice::support {

/// add(), close(), cancel() and the waits may be called by any thread.
class GrowingJob : public stage::Job {
 public:
  void add(stage::Request request) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(request));
    }
    line().ring();
  }
  /// No more will be added.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    line().ring();
  }

  /// Until the head has found nothing so many times.
  void wait_for_none(int times) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return nones_ >= times; });
  }
  int nones() {
    const std::lock_guard lock(mutex_);
    return nones_;
  }
  std::vector<std::int32_t> tokens_of(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    return tokens_[id];
  }
  std::vector<std::uint64_t> cancelled() {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  void wait_for_cancelled(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return cancelled_.size() >= count; });
  }

  stage::Next next(stage::Request& request) override {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) {
      if (closed_) return stage::Next::no_more;
      ++nones_;
      changed_.notify_all();
      return stage::Next::none_now;
    }
    request = std::move(waiting_.front());
    waiting_.pop_front();
    limits_[request.id] = request.max_tokens;
    return stage::Next::request;
  }
  void on_prompt_token(std::uint64_t, std::int32_t, const stage::TokenResult&) override {}
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override {
    const std::lock_guard lock(mutex_);
    tokens_[id].push_back(result.token);
    return static_cast<std::int32_t>(tokens_[id].size()) == limits_[id];
  }
  void on_prompt_done(std::uint64_t) override {}
  void on_failed(std::uint64_t id, const std::string&) override {
    const std::lock_guard lock(mutex_);
    tokens_[id] = {-1};
  }
  void on_cancelled(std::uint64_t id) override {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<stage::Request> waiting_;
  bool closed_ = false;
  int nones_ = 0;
  std::map<std::uint64_t, std::int32_t> limits_;
  std::map<std::uint64_t, std::vector<std::int32_t>> tokens_;
  std::vector<std::uint64_t> cancelled_;
};

}  // namespace sluice::support
