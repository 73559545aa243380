// What an interpreter opens and closes as it goes: scopes and pieces of text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/interpreter.h"

namespace sluice::launcher::jinja {

/// A scope for as long as it lives, or for the whole rendering where a macro was made in it.
class Interpreter::Frame {
 public:
  Frame(Interpreter& owner, Scope& around)
      : owner_(owner), scope_(std::make_unique<Scope>(&around)) {}
  ~Frame() {
    if (scope_->kept) owner_.kept_.push_back(std::move(scope_));
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  Scope& scope() { return *scope_; }

 private:
  Interpreter& owner_;
  std::unique_ptr<Scope> scope_;
};

/// A text that grows. All buffers of a rendering share one limit.
class Interpreter::Buffer {
 public:
  explicit Buffer(Interpreter& owner) : owner_(owner) {}
  ~Buffer() { owner_.open_bytes_ -= bytes_.size(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void add(std::string_view piece);
  /// str(value)
  void add(const Value& value);
  std::string take() {
    owner_.open_bytes_ -= bytes_.size();
    return std::exchange(bytes_, {});
  }

 private:
  Interpreter& owner_;
  std::string bytes_;
};

}  // namespace sluice::launcher::jinja
