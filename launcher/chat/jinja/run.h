// One rendering: what it may use, what it makes, and where in the template it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/chat/jinja/template_error.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher {
class Json;
}

namespace sluice::launcher::jinja {

/// What one rendering may use. A template is a program that a stranger wrote.
struct Limits {
  /// Nodes computed, plus one for every 64 bytes copied or searched: about a second.
  std::uint64_t steps = 20'000'000;
  std::size_t live_bytes = std::size_t{256} << 20;  // of values, at any one time
  std::size_t output_bytes = std::size_t{64} << 20;
  int depth = 1000;   // of nodes and macro calls inside each other
  int nesting = 200;  // of lists and dicts inside each other
};

/// Makes values and counts what they cost. One thread. Values must not outlive it.
class Run {
 public:
  class Level;

  Run(const Limits& limits, std::string where) : limits_(limits), where_(std::move(where)) {}
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  /// Throws TemplateError (limit) after the last step.
  void step(std::uint64_t count = 1) {
    if (count > limits_.steps - steps_) out_of_steps();
    steps_ += count;
  }
  /// Steps for bytes copied or searched.
  void scan(std::size_t bytes) { step(bytes / 64); }
  /// Throws TemplateError (limit) where no value of so many bytes can be made any more.
  void check_room(std::size_t bytes) const;

  // Errors, with the line that is computed. TypeError and ValueError of Python are failures.
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void refuse(const std::string& what) const;  // "... is not supported"
  [[noreturn]] void raise(const std::string& message) const;
  [[noreturn]] void exceed(const std::string& message) const;

  // Values. `safe`: see Text. Sequences and dicts nested too deeply are refused.
  Value text(std::string bytes, bool safe = false);
  Value sequence(Sequence::Form form, Values items, const char* name);
  Value list(Values items) { return sequence(Sequence::Form::list, std::move(items), "list"); }
  Value tuple(Values items) { return sequence(Sequence::Form::tuple, std::move(items), "tuple"); }
  Value generator(Values items) {
    return sequence(Sequence::Form::generator, std::move(items), "generator");
  }
  /// Pre: no key stands in it twice.
  Value mapping(std::vector<Mapping::Member> members);
  /// A later one of equal keys wins, in the place of the first, as in Python.
  Value mapping_of_pairs(std::vector<Mapping::Member> members);
  Value names();
  /// `held`: a value that `call` keeps.
  Value function(std::string name, std::function<Value(Run&, Arguments)> call,
                 const Value& held = {});
  Value loop(Values items);
  Value undefined(std::string message);
  Value value_of(const Json& json);

  const Limits& limits() const { return limits_; }

  Claim claim(std::size_t bytes) {
    check_room(bytes);
    return {ledger_, bytes};
  }
  void set_line(int line) { line_ = line; }
  int line() const { return line_; }

 private:
  [[noreturn]] void out_of_steps() const;
  int checked_depth(int deepest) const;

  Limits limits_;
  std::string where_;
  Ledger ledger_{limits_.live_bytes};
  std::uint64_t steps_ = 0;
  int line_ = 1;
  int depth_ = 0;
  std::vector<std::shared_ptr<Names>> all_names_;  // emptied at the end: they may hold each other
};

/// One level deeper for as long as it lives. Throws TemplateError (limit) where that is too deep.
class Run::Level {
 public:
  explicit Level(Run& run) : run_(run) {
    if (run_.depth_ >= run_.limits_.depth) run_.exceed("it calls itself, or is nested, too deeply");
    ++run_.depth_;
  }
  ~Level() { --run_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Run& run_;
};

/// Builds a text piece by piece and refuses what gets too long.
class Builder {
 public:
  explicit Builder(Run& run) : run_(run) {}
  void add(std::string_view piece) {
    run_.scan(piece.size());
    run_.check_room(bytes_.size() + piece.size());
    bytes_.append(piece);
  }
  void add(std::size_t count, char byte) {
    run_.scan(count);
    run_.check_room(bytes_.size() + count);
    bytes_.append(count, byte);
  }
  std::string take() { return std::move(bytes_); }
  Value take_value() { return run_.text(std::move(bytes_)); }
  Run& run() { return run_; }

 private:
  Run& run_;
  std::string bytes_;
};

}  // namespace sluice::launcher::jinja
