// The values that templates compute with: Python's, as far as a template can make them. Lists and
// dicts never change once they are made (the sandbox of transformers forbids it); namespaces do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::launcher::jinja {

class Run;
class Value;
using Values = std::vector<Value>;

/// The bytes that the values of one run take, for as long as they live.
class Ledger {
 public:
  explicit Ledger(std::size_t limit) : limit_(limit) {}
  bool fits(std::size_t bytes) const { return bytes <= limit_ - taken_; }
  void take(std::size_t bytes) { taken_ += bytes; }
  void give(std::size_t bytes) { taken_ -= bytes; }

 private:
  std::size_t limit_;
  std::size_t taken_ = 0;
};

/// Gives its bytes back when the object that has it dies. The ledger must outlive it.
class Claim {
 public:
  Claim() = default;
  Claim(Ledger& ledger, std::size_t bytes) : ledger_(&ledger), bytes_(bytes) { ledger.take(bytes); }
  Claim(Claim&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), bytes_(other.bytes_) {}
  Claim& operator=(Claim&&) = delete;
  ~Claim() {
    if (ledger_ != nullptr) ledger_->give(bytes_);
  }

 private:
  Ledger* ledger_ = nullptr;
  std::size_t bytes_ = 0;
};

struct Text;      // str: valid UTF-8
struct Sequence;  // list, tuple, range, generator, view of a dict
struct Mapping;   // dict
struct Names;     // namespace()
struct Function;  // a macro, a global function, a bound method
struct Loop;      // what `loop` is
struct Missing;   // Jinja's Undefined

using TextPtr = std::shared_ptr<const Text>;
using SequencePtr = std::shared_ptr<const Sequence>;
using MappingPtr = std::shared_ptr<const Mapping>;

enum class Kind : std::uint8_t {
  none,
  undefined,
  boolean,
  integer,
  real,
  text,
  sequence,
  mapping,
  names,
  function,
  loop,
};

class Value {
 public:
  Value() = default;  // None
  explicit Value(bool value) : value_(value) {}
  explicit Value(std::int64_t value) : value_(value) {}
  explicit Value(double value) : value_(value) {}
  explicit Value(TextPtr text) : value_(std::move(text)) {}
  explicit Value(SequencePtr items) : value_(std::move(items)) {}
  explicit Value(MappingPtr members) : value_(std::move(members)) {}
  explicit Value(std::shared_ptr<Names> names) : value_(std::move(names)) {}
  explicit Value(std::shared_ptr<const Function> function) : value_(std::move(function)) {}
  explicit Value(std::shared_ptr<Loop> loop) : value_(std::move(loop)) {}
  explicit Value(std::shared_ptr<const Missing> missing) : value_(std::move(missing)) {}

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_none() const { return is(Kind::none); }
  bool is_undefined() const { return is(Kind::undefined); }
  bool is_text() const { return is(Kind::text); }
  bool is_sequence() const { return is(Kind::sequence); }
  bool is_mapping() const { return is(Kind::mapping); }
  /// An int as Python has it: bool is one.
  bool is_integral() const { return is(Kind::boolean) || is(Kind::integer); }
  bool is_number() const { return is_integral() || is(Kind::real); }

  // Pre: the value is of that kind.
  bool boolean() const { return std::get<bool>(value_); }
  /// Of a boolean: 0 or 1.
  std::int64_t integer() const {
    return is(Kind::boolean) ? std::int64_t{boolean()} : std::get<std::int64_t>(value_);
  }
  /// Of any number.
  double real() const {
    return is(Kind::real) ? std::get<double>(value_) : static_cast<double>(integer());
  }
  const Text& text() const { return *std::get<TextPtr>(value_); }
  const std::string& bytes() const;  // of a text
  const Sequence& sequence() const { return *std::get<SequencePtr>(value_); }
  const Mapping& mapping() const { return *std::get<MappingPtr>(value_); }
  Names& names() const { return *std::get<std::shared_ptr<Names>>(value_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(value_); }
  Loop& loop() const { return *std::get<std::shared_ptr<Loop>>(value_); }
  const Missing& missing() const { return *std::get<std::shared_ptr<const Missing>>(value_); }

  /// The same object in memory (Python's `is`); plain values: equal and of one kind.
  bool is_same(const Value& other) const { return value_ == other.value_; }

 private:
  // In the order of Kind.
  std::variant<std::monostate, std::shared_ptr<const Missing>, bool, std::int64_t, double, TextPtr,
               SequencePtr, MappingPtr, std::shared_ptr<Names>, std::shared_ptr<const Function>,
               std::shared_ptr<Loop>>
      value_;
};

struct Text {
  std::string bytes;
  std::size_t characters = 0;  // code points: what Python counts
  bool safe = false;           // made by the filter `safe`
  Claim claim;

  bool is_ascii() const { return characters == bytes.size(); }
};

inline const std::string& Value::bytes() const { return text().bytes; }

struct Sequence {
  enum class Form : std::uint8_t { list, tuple, range, view, generator };

  Form form = Form::list;
  Values items;
  const char* name = "list";     // Python's name of the type
  int depth = 1;                 // of nested values
  mutable std::size_t next = 0;  // generators: what was handed out is gone
  Claim claim;
};

struct Mapping {
  using Member = std::pair<Value, Value>;

  std::vector<Member> members;  // in the order they were added
  int depth = 1;
  Claim claim;

  /// Null pointer: there is no such key. Goes through all members.
  const Value* find(std::string_view key) const;
};

struct Names {
  std::vector<std::pair<std::string, Value>> members;
  Claim claim;

  const Value* find(std::string_view key) const;
};

/// What stands between the brackets of a call.
struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Function {
  std::string name;
  std::function<Value(Run&, Arguments)> call;
  int depth = 0;  // of the values that it holds
  Claim claim;
};

struct Loop {
  Values items;
  std::size_t index = 0;
  int depth = 0;  // of the items
  bool changed_before = false;
  Values changed;  // what loop.changed() was called with last
  Claim claim;
};

struct Missing {
  std::string message;  // of the error that any use of it is
};

/// Python's name of the value's type: "str", "int", "NoneType", "list".
const char* type_name(const Value& value);

/// How many values lie in each other in it. Destructors recurse so deep, so it is bounded.
int depth_of(const Value& value);

}  // namespace sluice::launcher::jinja
