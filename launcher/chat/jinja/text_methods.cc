// Source: Python's documentation, "String Methods", and bytes in place of characters wherever that
// gives the same: UTF-8 never matches inside a character.
#include "launcher/chat/jinja/text_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/methods.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

/// Steps for a search from the right, or for each of some characters, whose time may be the product
/// of both lengths.
void scan_product(Run& run, std::size_t bytes, std::size_t other) {
  run.scan(bytes * (4 + other / 8));
}

Value pieces(Run& run, const std::vector<std::string_view>& parts) {
  Values items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(run.text(std::string(part)));
  return run.list(std::move(items));
}

/// Where the next white space begins, or the next that is none.
std::size_t find_space(std::string_view text, std::size_t at, bool wanted) {
  while (at < text.size() && is_space(first_character(text.substr(at))) != wanted) {
    at += character_bytes(text, at);
  }
  return at;
}

std::vector<std::string_view> split_at_spaces(std::string_view text, std::int64_t most) {
  std::vector<std::string_view> parts;
  std::size_t at = find_space(text, 0, false);
  for (; at < text.size() && most != 0; --most) {
    const std::size_t end = find_space(text, at, true);
    parts.push_back(text.substr(at, end - at));
    at = find_space(text, end, false);
  }
  if (at < text.size()) parts.push_back(text.substr(at));  // with the white space at its end
  return parts;
}

std::vector<std::string_view> split_at_spaces_from_right(std::string_view text, std::int64_t most) {
  std::vector<std::string_view> parts;
  text = strip(text, nullptr, Side::right);
  for (; !text.empty() && most != 0; --most) {
    std::size_t begin = text.size();
    while (begin > 0) {
      const std::string_view last = last_part(text.substr(0, begin));
      if (is_space(first_character(last))) break;
      begin -= last.size();
    }
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), nullptr, Side::right);
  }
  if (!text.empty()) parts.push_back(text);
  std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view by,
                                       std::int64_t most) {
  std::vector<std::string_view> parts;
  for (std::size_t end = 0; most != 0 && (end = find_bytes(text, by)) != kNone; --most) {
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end + by.size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> split_from_right(std::string_view text, std::string_view by,
                                               std::int64_t most) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; most != 0 && (at = text.rfind(by)) != kNone; --most) {
    parts.push_back(text.substr(at + by.size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  std::ranges::reverse(parts);
  return parts;
}

Value split(Run& run, const Value& self, const std::string& name, const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"sep", "maxsplit"});
  const std::string& text = self.bytes();
  const std::int64_t most = bound.integer(1, -1);
  const std::string* by = bound.text_or_null(0);
  if (by != nullptr && by->empty()) run.fail("empty separator");
  scan_product(run, text.size(), name == "split" || by == nullptr ? 0 : by->size());
  if (by == nullptr) {
    return pieces(run, name == "split" ? split_at_spaces(text, most)
                                       : split_at_spaces_from_right(text, most));
  }
  return pieces(run,
                name == "split" ? split_at(text, *by, most) : split_from_right(text, *by, most));
}

Value partition(Run& run, const Value& self, const std::string& name, const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"sep"}, 1);
  const std::string& text = self.bytes();
  const std::string& by = bound.text(0);
  if (by.empty()) run.fail("empty separator");
  const bool right = name == "rpartition";
  scan_product(run, text.size(), right ? by.size() : 0);
  const std::size_t at = right ? text.rfind(by) : find_bytes(text, by);
  if (at == kNone) {
    const Value none = run.text("");
    return run.tuple(right ? Values{none, none, self} : Values{self, none, none});
  }
  return run.tuple(
      {run.text(text.substr(0, at)), run.text(by), run.text(text.substr(at + by.size()))});
}

/// The characters from arguments `place` and `place + 1` of startswith, find and so on.
struct Part {
  std::string_view text;
  std::int64_t begin = 0;  // in characters, of the whole text
  bool empty = false;      // it begins behind its end: not even "" is in it
};

Part part_of(const Text& text, const Bound& bound, std::size_t place) {
  const auto size = static_cast<std::int64_t>(text.characters);
  const auto bounded = [&](std::size_t argument, std::int64_t otherwise) {
    const std::int64_t at = bound.integer(argument, otherwise);
    return at < 0 ? std::max<std::int64_t>(at + size, 0) : at;
  };
  const std::int64_t begin = bounded(place, 0);
  const std::int64_t end = std::min(bounded(place + 1, size), size);
  if (begin > end) return {{}, begin, true};
  const std::size_t first = byte_of(text, static_cast<std::size_t>(begin));
  const std::size_t last = byte_of(text, static_cast<std::size_t>(end));
  return {std::string_view(text.bytes).substr(first, last - first), begin, false};
}

Value affix(Run& run, const Value& self, const std::string& name, const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"prefix", "start", "end"}, 1);
  const Part part = part_of(self.text(), bound, 1);
  const bool front = name == "startswith";
  const auto fits = [&](const std::string& affix) {
    return !part.empty && (front ? part.text.starts_with(affix) : part.text.ends_with(affix));
  };
  if (!bound.at(0).is_sequence()) return Value(fits(bound.text(0)));
  const Sequence& any = bound.at(0).sequence();
  if (any.form != Sequence::Form::tuple) static_cast<void>(bound.text(0));  // throws
  for (const Value& one : any.items) {
    if (!one.is_text()) run.fail(fmt::format("tuple for {} must only contain str", name));
    if (fits(one.bytes())) return Value(true);
  }
  return Value(false);
}

Value find(Run& run, const Value& self, const std::string& name, const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"sub", "start", "end"}, 1);
  const std::string& wanted = bound.text(0);
  const Part part = part_of(self.text(), bound, 1);
  const bool right = name[0] == 'r';
  scan_product(run, self.bytes().size(), right ? wanted.size() : 0);
  if (name == "count") {
    if (part.empty) return Value(std::int64_t{0});
    if (wanted.empty()) return Value(static_cast<std::int64_t>(count_characters(part.text)) + 1);
    return Value(static_cast<std::int64_t>(split_at(part.text, wanted, -1).size()) - 1);
  }
  const std::size_t at = part.empty ? kNone
                         : right    ? part.text.rfind(wanted)
                                    : find_bytes(part.text, wanted);
  if (at == kNone) {
    if (name.ends_with("index")) run.fail("substring not found");
    return Value(std::int64_t{-1});
  }
  return Value(part.begin + static_cast<std::int64_t>(count_characters(part.text.substr(0, at))));
}

Value remove_affix(Run& run, const Value& self, const std::string& name,
                   const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"prefix"}, 1);
  std::string_view text = self.bytes();
  const std::string& affix = bound.text(0);
  if (name == "removeprefix" && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (name == "removesuffix" && text.ends_with(affix)) text.remove_suffix(affix.size());
  return run.text(std::string(text));
}

Value strip_method(Run& run, const Value& self, const std::string& name,
                   const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"chars"});
  const Side side = name == "strip" ? Side::both : name == "lstrip" ? Side::left : Side::right;
  const std::string* chars = bound.text_or_null(0);
  scan_product(run, self.bytes().size(), chars != nullptr ? chars->size() : 0);
  return run.text(std::string(strip(self.bytes(), chars, side)));
}

Value padded(Run& run, const Value& self, const std::string& name, const Arguments& arguments) {
  const Bound bound(run, name, arguments, {"width", "fillchar"}, 1);
  const std::string* fill = bound.text_or_null(1);
  if (fill != nullptr && count_characters(*fill) != 1) {
    run.fail("The fill character must be exactly one character long");
  }
  const Stand stand = name == "center"  ? Stand::center
                      : name == "ljust" ? Stand::left
                                        : Stand::right;
  return pad(run, self.text(), bound.integer(0, 0), fill != nullptr ? *fill : " ", stand);
}

Value zero_fill(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound(run, "zfill", arguments, {"width"}, 1);
  const std::string& text = self.bytes();
  const auto size = static_cast<std::int64_t>(self.text().characters);
  const bool sign = text.starts_with('-') || text.starts_with('+');
  Builder out(run);
  out.add(text.substr(0, sign ? 1 : 0));
  out.add(static_cast<std::size_t>(std::max<std::int64_t>(bound.integer(0, 0) - size, 0)), '0');
  out.add(text.substr(sign ? 1 : 0));
  return out.take_value();
}

/// isupper and so on: every character is so, and there is one.
Value is_all(const Value& self, const std::string& name) {
  const std::u32string text = decode(self.bytes());
  const auto all = [&](auto&& holds) {
    return Value(!text.empty() && std::ranges::all_of(text, holds));
  };
  if (name == "isspace") return all(is_space);
  if (name == "isalpha") return all(is_letter);
  if (name == "isascii") return Value(self.text().is_ascii());
  if (name == "isalnum") return all([](char32_t one) { return is_letter(one) || is_digit(one); });
  if (name == "isupper" || name == "islower") {
    const bool up = name == "isupper";
    return Value(std::ranges::any_of(text, up ? is_upper : is_lower) &&
                 std::ranges::none_of(text, up ? is_lower : is_upper));
  }
  return all(is_digit);
}

Value change_case(Run& run, const Value& self, const std::string& name) {
  const std::string& text = self.bytes();
  run.scan(8 * text.size());
  if (name == "upper") return run.text(upper(text));
  if (name == "lower") return run.text(lower(text));
  if (name == "title") return run.text(title(text));
  if (name == "capitalize") return run.text(capitalize(text));
  if (name == "swapcase") return run.text(swap_case(text));
  if (!self.text().is_ascii()) run.refuse("casefold() of a text with characters beyond ASCII");
  return run.text(lower(text));
}

Value split_lines_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound(run, "splitlines", arguments, {"keepends"});
  run.scan(4 * self.bytes().size());
  return pieces(run, split_lines(self.bytes(), bound.truth(0)));
}

Value replace_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound(run, "replace", arguments, {"old", "new", "count"}, 2);
  return replace(run, self.bytes(), bound.text(0), bound.text(1), bound.integer(2, -1));
}

Value join_method(Run& run, const Value& self, const Arguments& arguments) {
  const Bound bound(run, "join", arguments, {"iterable"}, 1);
  return join(run, self.bytes(), items_of(run, bound.at(0)));
}

using Method = Value (*)(Run&, const Value&, const std::string&, const Arguments&);
struct Entry {
  std::string_view name;
  Method call;
};

template <Value (*kCall)(Run&, const Value&, const Arguments&)>
Value unnamed(Run& run, const Value& self, const std::string&, const Arguments& arguments) {
  return kCall(run, self, arguments);
}
Value without_arguments(Run& run, const Value& self, const std::string& name,
                        const Arguments& arguments) {
  static_cast<void>(Bound(run, name, arguments, {}));
  if (!name.starts_with("is")) return change_case(run, self, name);
  run.scan(4 * self.bytes().size());
  return is_all(self, name);
}
Value format_method(Run& run, const Value& self, const Arguments& arguments) {
  return brace_format(run, self.bytes(), arguments);
}

constexpr auto kMethods = std::to_array<Entry>({
    {"capitalize", without_arguments},
    {"casefold", without_arguments},
    {"center", padded},
    {"count", find},
    {"endswith", affix},
    {"find", find},
    {"format", unnamed<format_method>},
    {"index", find},
    {"isalnum", without_arguments},
    {"isalpha", without_arguments},
    {"isascii", without_arguments},
    {"isdecimal", without_arguments},
    {"isdigit", without_arguments},
    {"islower", without_arguments},
    {"isnumeric", without_arguments},
    {"isspace", without_arguments},
    {"isupper", without_arguments},
    {"join", unnamed<join_method>},
    {"ljust", padded},
    {"lower", without_arguments},
    {"lstrip", strip_method},
    {"partition", partition},
    {"removeprefix", remove_affix},
    {"removesuffix", remove_affix},
    {"replace", unnamed<replace_method>},
    {"rfind", find},
    {"rindex", find},
    {"rjust", padded},
    {"rpartition", partition},
    {"rsplit", split},
    {"rstrip", strip_method},
    {"split", split},
    {"splitlines", unnamed<split_lines_method>},
    {"startswith", affix},
    {"strip", strip_method},
    {"swapcase", without_arguments},
    {"title", without_arguments},
    {"upper", without_arguments},
    {"zfill", unnamed<zero_fill>},
});

}  // namespace

bool is_text_method(std::string_view name) {
  return std::ranges::find(kMethods, name, &Entry::name) != kMethods.end();
}

Value call_text_method(Run& run, const Value& self, const std::string& name,
                       const Arguments& arguments) {
  run.scan(self.bytes().size());
  return std::ranges::find(kMethods, name, &Entry::name)->call(run, self, name, arguments);
}

Value replace(Run& run, std::string_view text, std::string_view from, std::string_view to,
              std::int64_t count) {
  Builder out(run);
  run.scan(4 * text.size());
  if (from.empty()) {  // before every character, and at the end
    std::size_t at = 0;
    for (; count != 0; --count) {
      out.add(to);
      if (at == text.size()) break;
      const std::size_t size = character_bytes(text, at);
      out.add(text.substr(at, size));
      at += size;
    }
    if (at < text.size()) out.add(text.substr(at));
    return out.take_value();
  }
  for (std::size_t at = 0; count != 0 && (at = find_bytes(text, from)) != kNone; --count) {
    out.add(text.substr(0, at));
    out.add(to);
    run.step();
    text.remove_prefix(at + from.size());
  }
  out.add(text);
  return out.take_value();
}

Value pad(Run& run, const Text& text, std::int64_t width, std::string_view fill, Stand stand) {
  const auto size = static_cast<std::int64_t>(text.characters);
  const std::int64_t missing = std::max<std::int64_t>(width - size, 0);
  // str.center() puts the odd one in front where the width is odd.
  const std::int64_t before = stand == Stand::left    ? 0
                              : stand == Stand::right ? missing
                                                      : missing / 2 + (missing & width & 1);
  Builder out(run);
  const auto fill_up = [&](std::int64_t count) {
    run.step(static_cast<std::uint64_t>(count) / 8);
    for (; count > 0; --count) out.add(fill);
  };
  fill_up(before);
  out.add(text.bytes);
  fill_up(missing - before);
  return out.take_value();
}

Value join(Run& run, std::string_view separator, const Values& items) {
  Builder out(run);
  for (std::size_t i = 0; i < items.size(); ++i) {
    run.step();
    if (!items[i].is_text()) {
      run.fail(
          fmt::format("sequence item {}: expected str instance, {} found", i, type_name(items[i])));
    }
    if (i > 0) out.add(separator);
    out.add(items[i].bytes());
  }
  return out.take_value();
}

}  // namespace sluice::launcher::jinja
