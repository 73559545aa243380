// Filters of texts and numbers. Source: Jinja's filters.py, and tojson of transformers'
// chat_template_utils.py.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/filters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/methods.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/chat/jinja/text_methods.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

/// The filter's input as a text, as soft_str() makes it.
Value soft(Run& run, const Value& input) {
  return input.is_text() ? input : run.text(str(run, input));
}

/// A method of str on whatever the input is.
template <const char* kName>
Value method_of_text(Run& run, const Value& input, const Arguments& arguments) {
  return call_text_method(run, soft(run, input), kName, arguments);
}
constexpr char kUpper[] = "upper";
constexpr char kLower[] = "lower";
constexpr char kCapitalize[] = "capitalize";

Value trim(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "trim", arguments, {"chars"});
  return call_text_method(run, soft(run, input), "strip", {{bound.value(0)}, {}});
}

/// Every word with a large first letter; words begin behind blanks, hyphens and open brackets.
Value title_filter(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "title", arguments, {}));
  const std::string text = str(run, input);
  run.scan(8 * text.size());
  std::string out;
  std::size_t at = 0;
  const auto part_end = [&](std::size_t from, bool separates) {
    while (from < text.size()) {
      const char32_t one = first_character(std::string_view(text).substr(from));
      const bool is_separator =
          is_space(one) || (one < 0x80 && std::string_view("-({[<").find(static_cast<char>(one)) !=
                                              std::string_view::npos);
      if (is_separator != separates) break;
      from += character_bytes(text, from);
    }
    return from;
  };
  while (at < text.size()) {
    const std::size_t word = part_end(at, true);
    out += text.substr(at, word - at);
    const std::size_t end = part_end(word, false);
    if (word < end) {
      const std::size_t first = character_bytes(text, word);
      out += upper(std::string_view(text).substr(word, first));
      out += lower(std::string_view(text).substr(word + first, end - word - first));
    }
    at = end;
  }
  return run.text(std::move(out));
}

Value replace_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "replace", arguments, {"old", "new", "count"}, 2);
  return replace(run, str(run, input), str(run, bound.at(0)), str(run, bound.at(1)),
                 bound.integer(2, -1));
}

Value indent(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "indent", arguments, {"width", "first", "blank"});
  check_defined(run, input);
  if (!input.is_text()) {
    run.fail(fmt::format("unsupported operand type(s) for +=: '{}' and 'str'", type_name(input)));
  }
  Builder margin(run);
  if (bound.has(0) && bound.at(0).is_text()) {
    margin.add(bound.at(0).bytes());
  } else {
    margin.add(static_cast<std::size_t>(std::max<std::int64_t>(bound.integer(0, 4), 0)), ' ');
  }
  const std::string indention = margin.take();
  const std::string text = input.bytes() + "\n";  // Jinja's quirk: a last line end is kept
  const bool blank = bound.truth(2);
  run.scan(4 * text.size());
  Builder out(run);
  if (bound.truth(1)) out.add(indention);
  bool first = true;
  for (const std::string_view line : split_lines(text, false)) {
    if (!first) out.add("\n");
    if (!first && (blank || !line.empty())) out.add(indention);
    out.add(line);
    first = false;
  }
  return out.take_value();
}

Value center(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "center", arguments, {"width"});
  return pad(run, soft(run, input).text(), bound.integer(0, 80), " ", Stand::center);
}

Value truncate(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "truncate", arguments, {"length", "killwords", "end", "leeway"});
  const std::string end = bound.has(2) ? bound.text(2) : "...";
  const std::int64_t length = bound.integer(0, 255);
  const std::int64_t leeway = bound.integer(3, 5);
  const auto end_length = static_cast<std::int64_t>(count_characters(end));
  if (length < end_length)
    run.fail(fmt::format("expected length >= {}, got {}", end_length, length));
  if (leeway < 0) run.fail(fmt::format("expected leeway >= 0, got {}", leeway));
  if (jinja::length(run, input) <= length + leeway) return input;
  if (!input.is_text()) run.refuse(fmt::format("truncate() of '{}'", type_name(input)));
  std::string kept =
      input.bytes().substr(0, byte_of(input.text(), static_cast<std::size_t>(length - end_length)));
  if (!bound.truth(1)) kept = kept.substr(0, kept.rfind(' '));
  return run.text(kept + end);
}

Value word_count(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "wordcount", arguments, {}));
  const std::string text = str(run, input);
  run.scan(4 * text.size());
  std::int64_t count = 0;
  bool inside = false;
  for (const char32_t one : decode(text)) {
    const bool word = is_letter(one) || is_digit(one) || one == '_';
    if (word && !inside) ++count;
    inside = word;
  }
  return Value(count);
}

Value string_filter(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "string", arguments, {}));
  return soft(run, input);
}

Value safe(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "safe", arguments, {}));
  return run.text(str(run, input), true);
}

Value format_filter(Run& run, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    run.fail("can't handle positional and keyword arguments at the same time");
  }
  if (arguments.named.empty()) {
    return percent_format(run, str(run, input), run.tuple(arguments.positional));
  }
  std::vector<Mapping::Member> members;
  for (const auto& [name, value] : arguments.named) members.emplace_back(run.text(name), value);
  return percent_format(run, str(run, input), run.mapping(std::move(members)));
}

Value tojson(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "tojson", arguments,
                    {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.truth(0);
  style.sorted = bound.truth(3);
  if (bound.has(1) && !bound.at(1).is_none()) {
    style.has_indent = true;
    style.between_items.resize(1);  // "," alone
    if (bound.at(1).is_text()) {
      style.indent = bound.at(1).bytes();
    } else {
      const std::int64_t width = bound.integer(1, 0);
      if (width > 1024) run.exceed("tojson() with an indent of more than 1024");
      style.indent.assign(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
    }
  }
  if (bound.has(2) && !bound.at(2).is_none()) {
    const Values parts = items_of(run, bound.at(2));
    if (parts.size() != 2 || !parts[0].is_text() || !parts[1].is_text()) {
      run.fail("tojson(): separators must be two texts");
    }
    style.between_items = parts[0].bytes();
    style.behind_key = parts[1].bytes();
  }
  return to_json(run, input, style);
}

Value absolute(Run& run, const Value& input, const Arguments& arguments) {
  static_cast<void>(Bound(run, "abs", arguments, {}));
  check_defined(run, input);
  if (!input.is_number()) {
    run.fail(fmt::format("bad operand type for abs(): '{}'", type_name(input)));
  }
  if (input.is(Kind::real)) return Value(std::fabs(input.real()));
  return input.integer() < 0 ? negate(run, input) : Value(input.integer());
}

Value round_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "round", arguments, {"precision", "method"});
  const std::string method = bound.has(1) ? bound.text(1) : "common";
  const std::int64_t precision = bound.integer(0, 0);
  check_defined(run, input);
  if (method != "common" && method != "ceil" && method != "floor") {
    run.fail("method must be common, ceil or floor");
  }
  if (!input.is_number()) {
    run.fail(fmt::format("type {} doesn't define __round__ method", type_name(input)));
  }
  if (precision < -300 || precision > 300) run.refuse("round() to more than 300 digits");
  const double value = input.real();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method != "common") {
    const double scaled = value * scale;
    return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (input.is_integral()) {
    if (precision < 0) run.refuse("round() of an integer to tens");
    return Value(input.integer());
  }
  if (precision <= 0) return Value(std::nearbyint(value * scale) / scale);
  const std::string digits = fmt::format("{:.{}f}", value, precision);  // rounds its exact value
  return Value(std::strtod(digits.c_str(), nullptr));
}

/// int(text, base) of Python; nothing where that is a ValueError.
std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  text = strip(text, nullptr, Side::both);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const auto prefix = [&](std::string_view small, std::string_view large, int of) {
    if ((base == of || base == 0) && (text.starts_with(small) || text.starts_with(large))) {
      text.remove_prefix(2);
      base = of;
    }
  };
  prefix("0x", "0X", 16);
  prefix("0o", "0O", 8);
  prefix("0b", "0B", 2);
  if (base == 0) base = 10;
  std::string digits(negative ? "-" : "");
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool joins = text[i] == '_' && i > 0 && i + 1 < text.size() && text[i + 1] != '_';
    if (!joins) digits += text[i];
  }
  std::int64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number, base);
  if (error != std::errc() || stop != end || text.starts_with('-')) return {};
  return number;
}

std::optional<double> parse_real(std::string_view text) {
  text = strip(text, nullptr, Side::both);
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with('+')) return {};
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const bool fits = error == std::errc() || error == std::errc::result_out_of_range;
  if (!fits || stop != end) return {};
  return error == std::errc() ? number : std::strtod(std::string(text).c_str(), nullptr);
}

std::optional<std::int64_t> whole(double number) {
  if (!(std::fabs(number) < 9.2e18)) return {};
  return static_cast<std::int64_t>(number);
}

Value int_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "int", arguments, {"default", "base"});
  check_defined(run, input);
  std::optional<std::int64_t> number;
  if (input.is_text()) {
    const std::int64_t base = bound.integer(1, 10);
    if (base != 0 && (base < 2 || base > 36)) run.fail("int() base must be >= 2 and <= 36, or 0");
    number = parse_integer(input.bytes(), static_cast<int>(base));
    if (!number) {
      const std::optional<double> real = parse_real(input.bytes());
      if (real) number = whole(*real);
    }
  } else if (input.is_integral()) {
    number = input.integer();
  } else if (input.is(Kind::real)) {
    number = whole(input.real());
  }
  if (number) return Value(*number);
  return bound.has(0) ? bound.at(0) : Value(std::int64_t{0});
}

Value float_filter(Run& run, const Value& input, const Arguments& arguments) {
  const Bound bound(run, "float", arguments, {"default"});
  check_defined(run, input);
  if (input.is_number()) return Value(input.real());
  if (input.is_text()) {
    if (const auto number = parse_real(input.bytes())) return Value(*number);
  }
  return bound.has(0) ? bound.at(0) : Value(0.0);
}

struct Entry {
  std::string_view name;
  Filter filter;
};

constexpr auto kFilters = std::to_array<Entry>({
    {"abs", absolute},
    {"capitalize", method_of_text<kCapitalize>},
    {"center", center},
    {"float", float_filter},
    {"format", format_filter},
    {"indent", indent},
    {"int", int_filter},
    {"lower", method_of_text<kLower>},
    {"replace", replace_filter},
    {"round", round_filter},
    {"safe", safe},
    {"string", string_filter},
    {"title", title_filter},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", method_of_text<kUpper>},
    {"wordcount", word_count},
});

}  // namespace

Filter find_text_filter(std::string_view name) {
  const auto found = std::ranges::find(kFilters, name, &Entry::name);
  return found == kFilters.end() ? nullptr : found->filter;
}

}  // namespace sluice::launcher::jinja
