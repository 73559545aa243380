#include "launcher/json/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace sluice::launcher {
namespace {

using Library = nlohmann::json;

/// What the library's exception says, without the library's own prefix.
std::string problem_of(std::string_view what) {
  const std::size_t bracket = what.find("] ");
  if (what.starts_with("[json.exception") && bracket != std::string_view::npos) {
    what.remove_prefix(bracket + 2);
  }
  return std::string(what);
}

/// Builds a value from the library's events. The library's parser keeps its own stack, so depth
/// costs no recursion.
class Builder final : public nlohmann::json_sax<Library> {
 public:
  explicit Builder(std::size_t max_depth) : max_depth_(max_depth) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& text) override { return add(std::move(text)); }
  bool binary(binary_t&) override { return add(nullptr); }

  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!open_.back().keys.insert(name).second) {
      throw JsonError(JsonError::Kind::duplicate,
                      fmt::format("the key {} stands twice in one object", Json(name).dump()),
                      name);
    }
    open_.back().key = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Library::exception& error) override {
    throw JsonError(JsonError::Kind::syntax, problem_of(error.what()));
  }

  Json take() { return std::move(root_); }

 private:
  struct Open {
    bool object;
    std::string key = {};  // of the member that comes next
    std::unordered_set<std::string> keys = {};
    Json::Array elements = {};
    Json::Object members = {};
  };

  bool add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Open& inner = open_.back(); inner.object) {
      inner.members.emplace_back(std::move(inner.key), std::move(value));
    } else {
      inner.elements.push_back(std::move(value));
    }
    return true;
  }
  bool open(bool object) {
    if (open_.size() >= max_depth_) {
      throw JsonError(JsonError::Kind::depth,
                      fmt::format("it is nested deeper than {} levels", max_depth_));
    }
    open_.push_back({object});
    return true;
  }
  bool close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    return add(done.object ? Json(std::move(done.members)) : Json(std::move(done.elements)));
  }

  std::size_t max_depth_;
  std::vector<Open> open_;
  Json root_;
};

/// Of a value without members and elements.
std::string leaf(const Library& value, bool ascii) {
  return value.dump(-1, ' ', ascii, Library::error_handler_t::replace);
}

const char* name_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a text";
  return value.is_array() ? "a list" : "an object";
}

}  // namespace

Json::Json(std::initializer_list<Part> parts) {
  const bool is_object = std::ranges::all_of(parts, [](const Part& part) {
    const Json& item = part.value_;
    return item.is_array() && item.size() == 2 && item.front().is_string();
  });
  if (!is_object) {
    *this = array(parts);
    return;
  }
  value_ = Object();
  for (const Part& part : parts)
    (*this)[part.value_.front().text()] = std::move(part.value_.back());
}

Json Json::array(std::initializer_list<Part> parts) {
  Array items;
  items.reserve(parts.size());
  for (const Part& part : parts) items.push_back(std::move(part.value_));
  return items;
}

Json Json::parse(std::string_view text, std::size_t max_depth) {
  // The library takes a NUL byte for the end of the text and would accept anything behind it.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw JsonError(JsonError::Kind::syntax, fmt::format("byte {} is a NUL", nul + 1));
  }
  Builder builder(max_depth);
  Library::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json Json::parse_or_null(std::string_view text) {
  try {
    return parse(text);
  } catch (const JsonError&) {
    return nullptr;
  }
}

void Json::refuse(const char* wanted) const {
  throw JsonError(JsonError::Kind::type, fmt::format("{} instead of {}", name_of(*this), wanted));
}

bool Json::is_integer_in(std::int64_t low, std::int64_t high) const {
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) {
    return std::cmp_greater_equal(*value, low) && std::cmp_less_equal(*value, high);
  }
  const auto* value = std::get_if<std::int64_t>(&value_);
  return value != nullptr && *value >= low && *value <= high;
}

bool Json::boolean() const {
  if (!is_boolean()) refuse("true or false");
  return std::get<bool>(value_);
}

std::int64_t Json::integer() const {
  if (!is_integer_in(INT64_MIN, INT64_MAX)) refuse("an integer of 64 bits");
  const auto* value = std::get_if<std::uint64_t>(&value_);
  return value != nullptr ? static_cast<std::int64_t>(*value) : std::get<std::int64_t>(value_);
}

std::uint64_t Json::unsigned_integer() const {
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return *value;
  if (!is_integer_in(0, INT64_MAX)) refuse("an integer of 64 bits without a sign");
  return static_cast<std::uint64_t>(std::get<std::int64_t>(value_));
}

double Json::number() const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (const auto* value = std::get_if<float>(&value_)) return *value;
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  if (!is<std::uint64_t>()) refuse("a number");
  return static_cast<double>(std::get<std::uint64_t>(value_));
}

const std::string& Json::text() const {
  if (!is_string()) refuse("a text");
  return std::get<std::string>(value_);
}

std::size_t Json::size() const {
  if (is_array()) return elements().size();
  if (is_object()) return items().size();
  return is_null() ? 0 : 1;
}

const Json::Array& Json::elements() const {
  static const Array none;
  const auto* elements = std::get_if<Array>(&value_);
  return elements != nullptr ? *elements : none;
}

const Json::Object& Json::items() const {
  static const Object none;
  const auto* members = std::get_if<Object>(&value_);
  return members != nullptr ? *members : none;
}

Json& Json::back() {
  if (!is_array() || empty()) refuse("a list that is not empty");
  return std::get<Array>(value_).back();
}

void Json::push_back(Json value) {
  if (is_null()) value_ = Array();
  if (!is_array()) refuse("a list");
  std::get<Array>(value_).push_back(std::move(value));
}

const Json* Json::find(std::string_view key) const {
  const Object& members = items();
  const auto found = std::ranges::find(members, key, &Member::first);
  return found == members.end() ? nullptr : &found->second;
}

const Json& Json::member(std::string_view key) const {
  static const Json null;
  const Json* found = find(key);
  return found == nullptr ? null : *found;
}

const Json& Json::at(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) throw JsonError(JsonError::Kind::type, fmt::format("no key \"{}\"", key));
  return *found;
}

Json& Json::operator[](std::string_view key) {
  if (is_null()) value_ = Object();
  if (!is_object()) refuse("an object");
  auto& members = std::get<Object>(value_);
  const auto found = std::ranges::find(members, key, &Member::first);
  return found != members.end() ? found->second : members.emplace_back(key, nullptr).second;
}

bool operator==(const Json& left, const Json& right) {
  if (left.is_integer() && right.is_integer()) {
    const bool fits = right.is_integer_in(INT64_MIN, INT64_MAX);
    if (fits) return left.is_integer_in(right.integer(), right.integer());
    return left.value_ == right.value_;  // both beyond 63 bits
  }
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  if (!left.is_object() || !right.is_object()) return left.value_ == right.value_;
  return left.size() == right.size() &&
         std::ranges::all_of(left.items(), [&](const Json::Member& member) {
           const Json* other = right.find(member.first);
           return other != nullptr && *other == member.second;
         });
}

std::string Json::dump(int indent, bool ascii) const {
  std::string out;
  write(out, indent, 1, ascii);
  return out;
}

void Json::write(std::string& out, int indent, int level, bool ascii) const {
  const auto new_line = [&](int levels) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(indent * levels), ' ');
  };
  const auto within = [&](char first, char last, const auto& parts, const auto& write_part) {
    out += first;
    for (const auto& part : parts) {
      if (&part != parts.data()) out += ',';
      new_line(level);
      write_part(part);
    }
    if (!parts.empty()) new_line(level - 1);
    out += last;
  };
  // A number type of its own, which knows how few digits tell one float from the next.
  using Floats = nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t,
                                      std::uint64_t, float>;
  std::visit(
      [&]<class T>(const T& value) {
        if constexpr (std::is_same_v<T, std::monostate>) {
          out += "null";
        } else if constexpr (std::is_same_v<T, float>) {
          out += Floats(value).dump();
        } else if constexpr (std::is_same_v<T, Array>) {
          within('[', ']', value,
                 [&](const Json& part) { part.write(out, indent, level + 1, ascii); });
        } else if constexpr (std::is_same_v<T, Object>) {
          within('{', '}', value, [&](const Member& part) {
            out += leaf(part.first, ascii) + (indent < 0 ? ":" : ": ");
            part.second.write(out, indent, level + 1, ascii);
          });
        } else {
          out += leaf(value, ascii);
        }
      },
      value_);
}

}  // namespace sluice::launcher
