// Turns pieces of text into tokens: the part of a tokenizer that was learnt.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/tokenizer/word_cache.h"

namespace sluice::launcher {

/// What a model needs while it works, kept from text to text. Not for two threads at once.
struct Workspace {
  WordCache words;
  std::vector<std::int32_t> symbols;
};

/// Lends workspaces to the threads that ask: as many are made as are in use at once.
class Workspaces {
 public:
  class Lease {
   public:
    Lease(Workspaces& owner, std::unique_ptr<Workspace> workspace)
        : owner_(owner), workspace_(std::move(workspace)) {}
    ~Lease() { owner_.take_back(std::move(workspace_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() const { return *workspace_; }

   private:
    Workspaces& owner_;
    std::unique_ptr<Workspace> workspace_;
  };

  Lease lend() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return {*this, std::make_unique<Workspace>()};
    std::unique_ptr<Workspace> workspace = std::move(idle_.back());
    idle_.pop_back();
    return {*this, std::move(workspace)};
  }

 private:
  void take_back(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(workspace));
  }

  std::mutex mutex_;  // guards the rest
  std::vector<std::unique_ptr<Workspace>> idle_;
};

/// Immutable: any thread may use it, with a workspace of its own.
class Model {
 public:
  virtual ~Model() = default;
  /// Appends the tokens of `piece`: valid UTF-8, or a word's bytes for a model of bytes.
  virtual void append_tokens(std::string_view piece, Workspace& workspace,
                             std::vector<std::int32_t>& ids) const = 0;
};

}  // namespace sluice::launcher
