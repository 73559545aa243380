// Filters of lists and dicts. Source: Jinja's filters.py.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/filters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/methods.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/chat/jinja/text_methods.h"

namespace sluice::launcher::jinja {
namespace {

/// What items are compared by: an attribute or the item, in lower case unless asked otherwise.
Value key_of(Run& run, const Value& item, const Value& path, bool case_sensitive) {
  Value key = attribute_of(run, item, path, nullptr);
  if (case_sensitive || !key.is_text()) return key;
  run.scan(8 * key.bytes().size());
  return run.text(lower(key.bytes()));
}

struct Keyed {
  Value key;
  Value item;
};

std::vector<Keyed> keyed(Run& run, const Value& input, const Value& path, bool case_sensitive) {
  std::vector<Keyed> items;
  for (Value& item : items_of(run, input)) {
    Value key = key_of(run, item, path, case_sensitive);
    items.push_back({std::move(key), std::move(item)});
  }
  return items;
}

void sort_by_key(Run& run, std::vector<Keyed>& items, bool reverse) {
  std::ranges::stable_sort(items, [&](const Keyed& one, const Keyed& other) {
    return reverse ? less(run, other.key, one.key) : less(run, one.key, other.key);
  });
}

Value list_of(Run& run, std::vector<Keyed> items) {
  Values values;
  values.reserve(items.size());
  for (Keyed& one : items) values.push_back(std::move(one.item));
  return run.list(std::move(values));
}

Value sort(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  Value path = bound.value(2);
  if (path.is_text() && path.bytes().find(',') != std::string::npos) {
    run.refuse("sort() by several attributes");
  }
  std::vector<Keyed> items = keyed(run, input, path, bound.truth(1));
  sort_by_key(run, items, bound.truth(0));
  return list_of(run, std::move(items));
}

Value dictsort(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.text(1) : "key";
  if (by != "key" && by != "value") run.fail("You can only sort by either \"key\" or \"value\"");
  check_defined(run, input);
  if (!input.is_mapping()) {
    run.fail(fmt::format("'{} object' has no attribute 'items'", type_name(input)));
  }
  std::vector<Keyed> items;
  for (const auto& [key, value] : input.mapping().members) {
    Value compared = key_of(run, by == "key" ? key : value, {}, bound.truth(0));
    items.push_back({std::move(compared), run.tuple({key, value})});
  }
  sort_by_key(run, items, bound.truth(2));
  return list_of(run, std::move(items));
}

Value groupby(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const Value* otherwise = bound.find(1);
  std::vector<Keyed> items;
  for (Value& item : items_of(run, input)) {
    Value key = attribute_of(run, item, bound.at(0), otherwise);
    if (!bound.truth(2)) key = key_of(run, key, {}, false);
    items.push_back({std::move(key), std::move(item)});
  }
  sort_by_key(run, items, false);
  Values groups;
  for (std::size_t at = 0; at < items.size();) {
    const std::size_t first = at;
    Values members;
    for (; at < items.size() && equal(run, items[at].key, items[first].key); ++at) {
      members.push_back(items[at].item);
    }
    Value name = attribute_of(run, members.front(), bound.at(0), otherwise);
    groups.push_back(run.tuple({std::move(name), run.list(std::move(members))}));
  }
  return run.list(std::move(groups));
}

Value unique(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "unique", arguments, {"case_sensitive", "attribute"});
  std::vector<Keyed> items = keyed(run, input, bound.value(1), bound.truth(0));
  Values seen;
  Values kept;
  for (Keyed& one : items) {
    check_hashable(run, one.key);
    const auto same = [&](const Value& other) { return equal(run, other, one.key); };
    if (std::ranges::any_of(seen, same)) continue;
    seen.push_back(std::move(one.key));
    kept.push_back(std::move(one.item));
  }
  return run.generator(std::move(kept));
}

Value extreme(Run& run, const Value& input, const Arguments& arguments, bool largest) {
  const Bound bound(run, largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  std::vector<Keyed> items = keyed(run, input, bound.value(1), bound.truth(0));
  if (items.empty()) return run.undefined("No aggregated item, sequence was empty.");
  std::size_t best = 0;
  for (std::size_t i = 1; i < items.size(); ++i) {
    const bool better = largest ? less(run, items[best].key, items[i].key, ">")
                                : less(run, items[i].key, items[best].key);
    if (better) best = i;
  }
  return items[best].item;
}
Value max(Run& run, const Value& input, const Arguments& arguments) {
  return extreme(run, input, arguments, true);
}
Value min(Run& run, const Value& input, const Arguments& arguments) {
  return extreme(run, input, arguments, false);
}

Value sum(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "sum", arguments, {"attribute", "start"});
  Value total = bound.has(1) ? bound.at(1) : Value(std::int64_t{0});
  if (total.is_text()) run.fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : items_of(run, input)) {
    total = compute(run, Operator::add, total, attribute_of(run, item, bound.value(0), nullptr));
  }
  return total;
}

Value join_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "join", arguments, {"d", "attribute"});
  Values texts;
  for (const Value& item : items_of(run, input)) {
    texts.push_back(run.text(str(run, attribute_of(run, item, bound.value(1), nullptr))));
  }
  return join(run, bound.has(0) ? str(run, bound.at(0)) : "", texts);
}

Value first(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "first", arguments, {}));
  if (input.is_sequence() && input.sequence().form == Sequence::Form::generator) {
    const Sequence& sequence = input.sequence();
    if (sequence.next < sequence.items.size()) return sequence.items[sequence.next++];
  } else if (input.is_sequence() && !input.sequence().items.empty()) {
    return input.sequence().items.front();
  } else {
    const Values items = items_of(run, input);
    if (!items.empty()) return items.front();
  }
  return run.undefined("No first item, sequence was empty.");
}

Value last(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "last", arguments, {}));
  if (input.is_sequence() && input.sequence().form == Sequence::Form::generator) {
    run.fail("'generator' object is not reversible");
  }
  const Values items = items_of(run, input);
  return items.empty() ? run.undefined("No last item, sequence was empty.") : items.back();
}

Value count(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "length", arguments, {}));
  return Value(length(run, input));
}

Value list(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "list", arguments, {}));
  return run.list(items_of(run, input));
}

Value reverse(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "reverse", arguments, {}));
  if (input.is_text()) return slice(run, input, {}, {}, Value(std::int64_t{-1}));
  Values items = items_of(run, input);
  std::ranges::reverse(items);
  return run.generator(std::move(items));
}

Value items(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "items", arguments, {}));
  Values pairs;
  if (!input.is_undefined()) {
    if (!input.is_mapping()) run.fail("Can only get item pairs from a mapping.");
    for (const auto& [key, value] : input.mapping().members) {
      pairs.push_back(run.tuple({key, value}));
    }
  }
  return run.generator(std::move(pairs));
}

Value default_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "default", arguments, {"default_value", "boolean"});
  if (!input.is_undefined() && !(bound.truth(1) && !truth(input))) return input;
  return bound.has(0) ? bound.at(0) : run.text("");
}

Value attr(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "attr", arguments, {"name"}, 1);
  const std::string name = str(run, bound.at(0));
  check_defined(run, input);
  const bool has_it =
      method_kind(input, name) != MethodKind::none || input.is(Kind::names) || input.is(Kind::loop);
  if (has_it) return attribute(run, input, name);
  return run.undefined(fmt::format("'{} object' has no attribute '{}'", type_name(input), name));
}

Value batch(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t width = bound.integer(0, 1);
  if (width < 1 || width > 100000) run.fail("batch() takes a count from 1 to 100000");
  Values rows;
  Values row;
  for (Value& item : items_of(run, input)) {
    if (std::cmp_equal(row.size(), width)) rows.push_back(run.list(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    const bool fills = bound.has(1) && !bound.at(1).is_none();
    while (fills && std::cmp_less(row.size(), width)) row.push_back(bound.at(1));
    rows.push_back(run.list(std::move(row)));
  }
  return run.generator(std::move(rows));
}

Value map(Run& run, const Value& input, const Arguments& arguments) {
  Values results;
  if (!truth(input)) return run.generator({});  // Jinja asks nothing of it
  if (arguments.positional.empty()) {
    const Bound bound(run, "map", arguments, {"attribute", "default"}, 1);
    const Value* otherwise = bound.has(1) && !bound.at(1).is_none() ? bound.find(1) : nullptr;
    for (const Value& item : items_of(run, input)) {
      results.push_back(attribute_of(run, item, bound.at(0), otherwise));
    }
    return run.generator(std::move(results));
  }
  const Value& name = arguments.positional.front();
  const Filter filter = name.is_text() ? find_filter(name.bytes()) : nullptr;
  if (filter == nullptr) run.refuse(fmt::format("the filter {}", repr(run, name)));
  const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()},
                       arguments.named};
  for (const Value& item : items_of(run, input)) {
    run.step();
    results.push_back(filter(run, item, rest));
  }
  return run.generator(std::move(results));
}

/// select, reject, selectattr, rejectattr.
Value pick(Run& run, const Value& input, const Arguments& arguments, bool wanted,
           bool by_attribute) {
  if (!truth(input)) return run.generator({});
  const std::size_t used = by_attribute ? 1 : 0;
  const Values& given = arguments.positional;
  if (given.size() < used) run.fail("Missing parameter for attribute name");
  Test test = nullptr;
  Arguments rest;
  if (given.size() > used) {
    const Value& name = given[used];
    test = name.is_text() ? find_test(name.bytes()) : nullptr;
    if (test == nullptr) run.refuse(fmt::format("the test {}", repr(run, name)));
    rest = {{given.begin() + static_cast<std::ptrdiff_t>(used) + 1, given.end()}, arguments.named};
  }
  Values kept;
  for (Value& item : items_of(run, input)) {
    run.step();
    const Value value = by_attribute ? attribute_of(run, item, given[0], nullptr) : item;
    const bool holds = test != nullptr ? test(run, value, rest) : truth(value);
    if (holds == wanted) kept.push_back(std::move(item));
  }
  return run.generator(std::move(kept));
}

template <bool kWanted, bool kByAttribute>
Value pick(Run& run, const Value& input, const Arguments& arguments) {
  return pick(run, input, arguments, kWanted, kByAttribute);
}

struct Entry {
  std::string_view name;
  Filter filter;
};

constexpr auto kFilters = std::to_array<Entry>({
    {"attr", attr},
    {"batch", batch},
    {"count", count},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"join", join_filter},
    {"last", last},
    {"length", count},
    {"list", list},
    {"map", map},
    {"max", max},
    {"min", min},
    {"reject", pick<false, false>},
    {"rejectattr", pick<false, true>},
    {"reverse", reverse},
    {"select", pick<true, false>},
    {"selectattr", pick<true, true>},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
});

}  // namespace

Filter find_list_filter(std::string_view name) {
  const auto found = std::ranges::find(kFilters, name, &Entry::name);
  return found == kFilters.end() ? nullptr : found->filter;
}

Value attribute_of(Run& run, const Value& value, const Value& path, const Value* otherwise) {
  if (path.is_none()) return value;
  if (!path.is_text()) {
    Value found = item(run, value, path);
    return found.is_undefined() && otherwise != nullptr ? *otherwise : found;
  }
  Value current = value;
  for (std::string_view rest = path.bytes();;) {
    const std::size_t end = rest.find('.');
    const std::string_view part = rest.substr(0, end);
    const bool is_number = !part.empty() && part.size() < 18 &&
                           part.find_first_not_of("0123456789") == std::string_view::npos;
    const Value key = is_number ? Value(std::int64_t{std::stoll(std::string(part))})
                                : run.text(std::string(part));
    current = item(run, current, key);
    if (current.is_undefined() && otherwise != nullptr) current = *otherwise;
    if (end == std::string_view::npos) return current;
    rest.remove_prefix(end + 1);
  }
}

}  // namespace sluice::launcher::jinja
