#include "launcher/chat/jinja/filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <memory>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/methods.h"
#include "launcher/chat/jinja/operators.h"

namespace sluice::launcher::jinja {
namespace {

constexpr std::int64_t kMostOfRange = 100000;  // of Jinja's sandbox, MAX_RANGE

constexpr std::string_view kUnsupportedFilters[] = {
    "e",     "escape",    "filesizeformat", "forceescape", "pprint",   "random",
    "slice", "striptags", "urlencode",      "urlize",      "wordwrap", "xmlattr"};

template <Operator kOperator>
bool compares(Run& run, const Value& input, const Arguments& arguments) {
  return compare(run, kOperator, input, Bound(run, "the test", arguments, {"other"}, 1).at(0));
}

template <bool (*kHolds)(const Value&)>
bool holds(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "the test", arguments, {}));
  return kHolds(input);
}

bool has_rest(Run& run, const Value& input, const Value& divisor, std::int64_t rest) {
  return equal(run, compute(run, Operator::modulo, input, divisor), Value(rest));
}

bool odd(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "odd", arguments, {}));
  return has_rest(run, input, Value(std::int64_t{2}), 1);
}

bool even(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "even", arguments, {}));
  return has_rest(run, input, Value(std::int64_t{2}), 0);
}

bool divisible(Run& run, const Value& input, const Arguments& arguments) {
  return has_rest(run, input, Bound(run, "divisibleby", arguments, {"num"}, 1).at(0), 0);
}

bool sameas(Run& run, const Value& input, const Arguments& arguments) {
  return input.is_same(Bound(run, "sameas", arguments, {"other"}, 1).at(0));
}

template <bool kUpper>
bool has_case(Run& run, const Value& input, const Arguments&) {
  const Value text = run.text(str(run, input));
  return call_method(run, text, kUpper ? "isupper" : "islower", {}).boolean();
}

bool is_filter(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "filter", arguments, {}));
  check_hashable(run, input);
  return input.is_text() && is_known_filter(input.bytes());
}

bool is_test(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "test", arguments, {}));
  check_hashable(run, input);
  return input.is_text() && find_test(input.bytes()) != nullptr;
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.is(Kind::boolean); }
bool is_true(const Value& value) { return value.is(Kind::boolean) && value.boolean(); }
bool is_false(const Value& value) { return value.is(Kind::boolean) && !value.boolean(); }
bool is_integer(const Value& value) { return value.is(Kind::integer); }
bool is_real(const Value& value) { return value.is(Kind::real); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.is_text(); }
bool is_mapping(const Value& value) { return value.is_mapping(); }
bool is_callable(const Value& value) {
  return value.is(Kind::function) || value.is(Kind::loop) || value.is_undefined();
}
bool is_escaped(const Value& value) { return value.is_text() && value.text().safe; }
bool is_sequence(const Value& value) {
  if (value.is_sequence()) {
    return value.sequence().form != Sequence::Form::generator &&
           value.sequence().form != Sequence::Form::view;
  }
  return value.is_text() || value.is_mapping() || value.is_undefined();
}

struct Entry {
  std::string_view name;
  Test test;
};

constexpr auto kTests = std::to_array<Entry>({
    {"!=", compares<Operator::not_equal>},
    {"<", compares<Operator::less>},
    {"<=", compares<Operator::less_equal>},
    {"==", compares<Operator::equal>},
    {">", compares<Operator::greater>},
    {">=", compares<Operator::greater_equal>},
    {"boolean", holds<is_boolean>},
    {"callable", holds<is_callable>},
    {"defined", holds<is_defined>},
    {"divisibleby", divisible},
    {"eq", compares<Operator::equal>},
    {"equalto", compares<Operator::equal>},
    {"escaped", holds<is_escaped>},
    {"even", even},
    {"false", holds<is_false>},
    {"filter", is_filter},
    {"float", holds<is_real>},
    {"ge", compares<Operator::greater_equal>},
    {"greaterthan", compares<Operator::greater>},
    {"gt", compares<Operator::greater>},
    {"in", compares<Operator::in>},
    {"integer", holds<is_integer>},
    {"iterable", holds<is_iterable>},
    {"le", compares<Operator::less_equal>},
    {"lessthan", compares<Operator::less>},
    {"lower", has_case<false>},
    {"lt", compares<Operator::less>},
    {"mapping", holds<is_mapping>},
    {"ne", compares<Operator::not_equal>},
    {"none", holds<is_none>},
    {"number", holds<is_number>},
    {"odd", odd},
    {"sameas", sameas},
    {"sequence", holds<is_sequence>},
    {"string", holds<is_string>},
    {"test", is_test},
    {"true", holds<is_true>},
    {"undefined", holds<is_undefined>},
    {"upper", has_case<true>},
});

Value range(Run& run, Arguments arguments) {
  if (!arguments.named.empty()) run.fail("range() takes no keyword arguments");
  const Bound bound(run, "range", arguments, {"start", "stop", "step"}, 1);
  std::int64_t at = bound.has(1) ? bound.integer(0, 0) : 0;
  const std::int64_t end = bound.has(1) ? bound.integer(1, 0) : bound.integer(0, 0);
  const std::int64_t step = bound.integer(2, 1);
  if (step == 0) run.fail("range() arg 3 must not be zero");
  const double count =
      (static_cast<double>(end) - static_cast<double>(at)) / static_cast<double>(step);
  if (count > static_cast<double>(kMostOfRange)) {
    run.exceed(fmt::format("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
                           kMostOfRange));
  }
  Values items;
  while (step > 0 ? at < end : at > end) {
    items.push_back(Value(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return run.sequence(Sequence::Form::range, std::move(items), "range");
}

/// The members of dict(mapping, name=value) and namespace(...).
std::vector<Mapping::Member> members_of(Run& run, const Arguments& arguments,
                                        const char* function) {
  std::vector<Mapping::Member> members;
  if (arguments.positional.size() > 1) {
    run.fail(fmt::format("{} expected at most 1 argument", function));
  }
  if (!arguments.positional.empty()) {
    const Value& first = arguments.positional.front();
    if (first.is_mapping()) {
      members = first.mapping().members;
    } else {
      for (const Value& pair : items_of(run, first)) {
        const Values parts = items_of(run, pair);
        if (parts.size() != 2) run.fail(fmt::format("{} takes pairs", function));
        members.emplace_back(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) members.emplace_back(run.text(name), value);
  return members;
}

Value make_dict(Run& run, Arguments arguments) {
  return run.mapping_of_pairs(members_of(run, arguments, "dict"));
}

Value make_namespace(Run& run, Arguments arguments) {
  const Value members = run.mapping_of_pairs(members_of(run, arguments, "namespace"));
  Value names = run.names();
  for (const auto& [key, value] : members.mapping().members) {
    names.names().members.emplace_back(str(run, key), value);
  }
  return names;
}

Value make_joiner(Run& run, Arguments arguments) {
  const Bound bound(run, "joiner", arguments, {"sep"});
  const Value separator = bound.has(0) ? bound.at(0) : run.text(", ");
  const auto used = std::make_shared<bool>(false);
  return run.function(
      "joiner",
      [separator, used](Run& now, Arguments) {
        return std::exchange(*used, true) ? separator : now.text("");
      },
      separator);
}

Value raise_exception(Run& run, Arguments arguments) {
  const Bound bound(run, "raise_exception", arguments, {"message"}, 1);
  run.raise(str(run, bound.at(0)));
}

Value strftime(Run& run, const Arguments& arguments, std::chrono::system_clock::time_point now) {
  constexpr std::size_t kMostBytes = 4096;
  const Bound bound(run, "strftime_now", arguments, {"format"}, 1);
  const std::string_view given = bound.text(0);
  // Cut at NUL, as Python 3.11 does, and never empty: 0 says that the result does not fit.
  const std::string format = std::string(given.substr(0, given.find('\0'))) + ".";
  if (format.size() > kMostBytes / 16) run.exceed("strftime_now() with a format so long");
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm local = {};
  ::localtime_r(&seconds, &local);
  std::string out(kMostBytes, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
  if (out.empty()) run.exceed("strftime_now() with a result so long");
  out.pop_back();
  return run.text(std::move(out));
}

}  // namespace

Filter find_filter(std::string_view name) {
  const Filter filter = find_text_filter(name);
  return filter != nullptr ? filter : find_list_filter(name);
}

bool is_known_filter(std::string_view name) {
  return find_filter(name) != nullptr ||
         std::ranges::find(kUnsupportedFilters, name) != std::end(kUnsupportedFilters);
}

Test find_test(std::string_view name) {
  const auto found = std::ranges::find(kTests, name, &Entry::name);
  return found == kTests.end() ? nullptr : found->test;
}

Value global(Run& run, std::string_view name, std::chrono::system_clock::time_point now) {
  if (name == "range") return run.function("range", range);
  if (name == "dict") return run.function("dict", make_dict);
  if (name == "namespace") return run.function("namespace", make_namespace);
  if (name == "joiner") return run.function("joiner", make_joiner);
  if (name == "raise_exception") return run.function("raise_exception", raise_exception);
  if (name == "strftime_now") {
    return run.function("strftime_now", [now](Run& called, Arguments arguments) {
      return strftime(called, arguments, now);
    });
  }
  if (name == "cycler" || name == "lipsum" || name == "self") {
    run.refuse(fmt::format("the name '{}'", name));
  }
  return run.undefined(fmt::format("'{}' is undefined", name));
}

}  // namespace sluice::launcher::jinja
