#include "launcher/chat/jinja/run.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/chat/jinja/operators.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

/// Of what every value on the heap takes besides its own bytes.
constexpr std::size_t kOverhead = 96;

}  // namespace

Run::~Run() {
  for (const auto& names : all_names_) names->members.clear();
}

void Run::check_room(std::size_t bytes) const {
  if (!ledger_.fits(bytes)) {
    exceed(fmt::format("its values take more than {} bytes", limits_.live_bytes));
  }
}

void Run::fail(const std::string& message) const {
  throw TemplateError(TemplateError::Kind::failed, where_, line_, message);
}

void Run::refuse(const std::string& what) const {
  throw TemplateError(TemplateError::Kind::unsupported, where_, line_, what + " is not supported");
}

void Run::raise(const std::string& message) const {
  throw TemplateError(TemplateError::Kind::raised, where_, line_, message);
}

void Run::exceed(const std::string& message) const {
  throw TemplateError(TemplateError::Kind::limit, where_, line_, message);
}

void Run::out_of_steps() const {
  exceed(fmt::format("it takes more than {} steps", limits_.steps));
}

Value Run::text(std::string bytes, bool safe) {
  Claim room = claim(bytes.size() + kOverhead);
  scan(bytes.size());
  const std::size_t characters = count_characters(bytes);
  return Value(
      std::make_shared<const Text>(Text{std::move(bytes), characters, safe, std::move(room)}));
}

int Run::checked_depth(int deepest) const {
  if (deepest >= limits_.nesting) {
    exceed(fmt::format("it nests lists and dicts more than {} levels deep", limits_.nesting));
  }
  return deepest + 1;
}

Value Run::sequence(Sequence::Form form, Values items, const char* name) {
  Claim room = claim(items.size() * sizeof(Value) + kOverhead);
  step(items.size() / 4);
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, depth_of(item));
  return Value(std::make_shared<const Sequence>(
      Sequence{form, std::move(items), name, checked_depth(deepest), 0, std::move(room)}));
}

Value Run::mapping(std::vector<Mapping::Member> members) {
  Claim room = claim(members.size() * sizeof(Mapping::Member) + kOverhead);
  step(members.size() / 4);
  int deepest = 0;
  for (const auto& [key, value] : members) deepest = std::max(deepest, depth_of(value));
  return Value(std::make_shared<const Mapping>(
      Mapping{std::move(members), checked_depth(deepest), std::move(room)}));
}

Value Run::mapping_of_pairs(std::vector<Mapping::Member> members) {
  std::vector<Mapping::Member> unique;
  for (Mapping::Member& member : members) {
    check_hashable(*this, member.first);
    step(unique.size() / 4);
    const auto same = std::ranges::find_if(
        unique, [&](const auto& other) { return equal(*this, other.first, member.first); });
    if (same != unique.end()) {
      same->second = std::move(member.second);
    } else {
      unique.push_back(std::move(member));
    }
  }
  return mapping(std::move(unique));
}

Value Run::names() {
  auto names = std::make_shared<Names>(Names{{}, claim(kOverhead)});
  all_names_.push_back(names);
  return Value(std::move(names));
}

Value Run::function(std::string name, std::function<Value(Run&, Arguments)> call,
                    const Value& held) {
  const int depth = checked_depth(depth_of(held));
  return Value(std::make_shared<const Function>(
      Function{std::move(name), std::move(call), depth, claim(2 * kOverhead)}));
}

Value Run::loop(Values items) {
  Claim room = claim(items.size() * sizeof(Value) + kOverhead);
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, depth_of(item));
  return Value(std::make_shared<Loop>(
      Loop{std::move(items), 0, checked_depth(deepest), false, {}, std::move(room)}));
}

Value Run::undefined(std::string message) {
  return Value(std::make_shared<const Missing>(Missing{std::move(message)}));
}

Value Run::value_of(const Json& json) {
  step();
  if (json.is_null()) return {};
  if (json.is_boolean()) return Value(json.boolean());
  if (json.is_string()) return text(json.text());
  if (json.is_integer()) {
    if (!json.is_integer_in(INT64_MIN, INT64_MAX)) refuse("an integer of more than 64 bits");
    return Value(json.integer());
  }
  if (json.is_number()) return Value(json.number());
  if (json.is_array()) {
    Values items;
    items.reserve(json.size());
    for (const Json& item : json) items.push_back(value_of(item));
    return list(std::move(items));
  }
  std::vector<Mapping::Member> members;
  members.reserve(json.size());
  for (const auto& [key, value] : json.items()) members.emplace_back(text(key), value_of(value));
  return mapping(std::move(members));
}

}  // namespace sluice::launcher::jinja
