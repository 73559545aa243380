// JSON as a value: the launcher's one door to the JSON library, whose header is slow to compile.
// Objects keep the order in which their keys were added.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::launcher {

/// A text that is no JSON, or a value of another kind than the one asked for.
class JsonError : public std::runtime_error {
 public:
  enum class Kind : std::uint8_t { syntax, depth, duplicate, type };
  JsonError(Kind kind, const std::string& what, std::string key = "")
      : std::runtime_error(what), kind_(kind), key_(std::move(key)) {}

  Kind kind() const { return kind_; }
  /// Of Kind::duplicate: the key that one object has twice.
  const std::string& key() const { return key_; }

 private:
  Kind kind_;
  std::string key_;
};

class Json {
 public:
  class Part;  // of a list in braces, from which it can be moved
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;
  static constexpr std::size_t kMaxDepth = 64;

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  template <std::signed_integral T>
  Json(T value) : value_(static_cast<std::int64_t>(value)) {}
  template <std::unsigned_integral T>
  Json(T value) : value_(static_cast<std::uint64_t>(value)) {}
  /// A float is written with no more digits than a float carries.
  Json(float value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* text) : value_(std::string(text)) {}
  Json(std::string text) : value_(std::move(text)) {}
  Json(std::string_view text) : value_(std::string(text)) {}
  template <class T>
  Json(const std::vector<T>& items) : value_(Array(items.begin(), items.end())) {}
  Json(Array items) : value_(std::move(items)) {}
  /// No key may stand in `members` twice.
  explicit Json(Object members) : value_(std::move(members)) {}
  /// {{"key", value}, ...} is an object, every other list an array. array() says it for a list of
  /// pairs that begin with a text.
  Json(std::initializer_list<Part> parts);

  static Json array() { return Array(); }
  static Json array(std::initializer_list<Part> parts);
  static Json object() { return Json(Object()); }

  /// Throws JsonError for a text that is not JSON (numbers beyond a double's range are not),
  /// nested deeper than `max_depth`, or with a key twice in one object.
  static Json parse(std::string_view text, std::size_t max_depth = kMaxDepth);
  /// Null for what parse() would refuse.
  static Json parse_or_null(std::string_view text);

  bool is_null() const { return is<std::monostate>(); }
  bool is_boolean() const { return is<bool>(); }
  /// Written without a fraction or an exponent.
  bool is_integer() const { return is<std::int64_t>() || is<std::uint64_t>(); }
  bool is_number() const { return is_integer() || is<float>() || is<double>(); }
  bool is_string() const { return is<std::string>(); }
  bool is_array() const { return is<Array>(); }
  bool is_object() const { return is<Object>(); }
  /// An integer from `low` to `high`.
  bool is_integer_in(std::int64_t low, std::int64_t high) const;

  // These throw JsonError where the value is of another kind, or does not fit.
  bool boolean() const;
  std::int64_t integer() const;
  std::uint64_t unsigned_integer() const;
  double number() const;
  const std::string& text() const;

  void get_to(bool& value) const { value = boolean(); }
  void get_to(double& value) const { value = number(); }
  void get_to(std::string& value) const { value = text(); }
  template <std::integral T>
  void get_to(T& value) const {
    if constexpr (std::unsigned_integral<T>) {
      value = fitting<T>(unsigned_integer());
    } else {
      value = fitting<T>(integer());
    }
  }

  /// Elements of an array or members of an object; 0 of null, 1 of anything else.
  std::size_t size() const;
  bool empty() const { return size() == 0; }

  // Arrays. Anything else has no elements to go through.
  const Json* begin() const { return elements().data(); }
  const Json* end() const { return elements().data() + elements().size(); }
  const Json& operator[](std::size_t index) const { return elements().at(index); }
  const Json& front() const { return elements().at(0); }
  Json& back();
  const Json& back() const { return elements().at(elements().size() - 1); }
  /// Makes an array of null.
  void push_back(Json value);

  // Objects. Anything else has no members. Looking one up goes through all of them.
  const Object& items() const;
  /// Null pointer: there is no such key.
  const Json* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  /// A null value where there is no such key.
  const Json& member(std::string_view key) const;
  /// Throws JsonError where there is no such key.
  const Json& at(std::string_view key) const;
  /// Adds a null where there is no such key; makes an object of null.
  Json& operator[](std::string_view key);

  /// Numbers are equal by value, whatever they are stored as; objects whatever their order.
  friend bool operator==(const Json& left, const Json& right);

  /// On one line, or indented by `indent` blanks; `ascii` escapes all other characters. What is not
  /// UTF-8 becomes U+FFFD.
  std::string dump(int indent = -1, bool ascii = false) const;

 private:
  template <class T>
  bool is() const {
    return std::holds_alternative<T>(value_);
  }
  template <class T, class U>
  T fitting(U number) const {
    if (!std::in_range<T>(number)) refuse("an integer of another size");
    return static_cast<T>(number);
  }
  [[noreturn]] void refuse(const char* wanted) const;
  const Array& elements() const;
  void write(std::string& out, int indent, int level, bool ascii) const;

  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, float, double, std::string, Array,
               Object>
      value_;
};

class Json::Part {
 public:
  template <class T>
  requires(!std::same_as<std::remove_cvref_t<T>, Part> && std::constructible_from<Json, T>)
      Part(T&& value)
      : value_(std::forward<T>(value)) {}
  Part(std::initializer_list<Part> parts) : value_(parts) {}

 private:
  friend class Json;
  mutable Json value_;
};

}  // namespace sluice::launcher
