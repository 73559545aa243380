// Python's two ways to put values into a text: `format % values` and `format.format(values)`.
// Source: Python's documentation, "printf-style String Formatting" and "Format String Syntax".
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

constexpr int kMostWidth = 1 << 20;

struct Field {
  std::string fill = " ";
  char align = 0;   // < > ^ =; 0: the type's own
  char sign = '-';  // what stands before a number that is not negative: '+', ' ' or nothing
  bool alternate = false;
  bool thousands = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

/// Reads a number at the front of `text`; -1 where there is none.
int take_number(Run& run, std::string_view& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range || number > kMostWidth) {
    run.exceed(fmt::format("a field of more than {} characters", kMostWidth));
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

void add_padded(Builder& out, const Field& field, std::string_view text, char default_align) {
  const std::size_t have = count_characters(text);
  const auto width = static_cast<std::size_t>(field.width);
  const std::size_t missing = width > have ? width - have : 0;
  const char align = field.align != 0 ? field.align : default_align;
  std::size_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::size_t sign_bytes = 0;
  if (align == '=' && !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ')) {
    sign_bytes = 1;
  }
  out.add(text.substr(0, sign_bytes));
  for (std::size_t i = 0; i < before; ++i) out.add(field.fill);
  out.add(text.substr(sign_bytes));
  for (std::size_t i = before; i < missing; ++i) out.add(field.fill);
}

std::string with_thousands(const std::string& digits) {
  std::string out;
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out + digits.substr(whole);
}

/// The digits of |value|, without sign.
std::string digits_of(Run& run, const Field& field, const Value& value) {
  const char type = field.type;
  const bool integral = type == 'd' || type == 'x' || type == 'X' || type == 'o' || type == 'b';
  if (integral || (type == 0 && value.is_integral())) {
    if (!value.is_integral()) {
      run.fail(fmt::format("a number of the form '{}' must be an integer, not {}", type,
                           type_name(value)));
    }
    const std::int64_t number = value.integer();
    const std::uint64_t size =
        number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
    std::string digits = type == 'x'   ? fmt::format("{:x}", size)
                         : type == 'X' ? fmt::format("{:X}", size)
                         : type == 'o' ? fmt::format("{:o}", size)
                         : type == 'b' ? fmt::format("{:b}", size)
                                       : fmt::format("{}", size);
    if (field.alternate && type != 'd' && type != 0) digits = std::string("0") + type + digits;
    return digits;
  }
  const double number = std::fabs(value.real());
  const int precision = field.precision < 0 ? 6 : field.precision;
  if (precision > 1000) run.exceed("a number with more than 1000 digits");
  switch (type) {
    case 'f':
    case 'F':
      return fmt::format("{:.{}f}", number, precision);
    case 'e':
      return fmt::format("{:.{}e}", number, precision);
    case 'E':
      return fmt::format("{:.{}E}", number, precision);
    case 'g':
      return fmt::format("{:.{}g}", number, std::max(precision, 1));
    case 'G':
      return fmt::format("{:.{}G}", number, std::max(precision, 1));
    case '%':
      return fmt::format("{:.{}f}%", number * 100, precision);
    case 0:
      if (field.precision < 0) return repr_of_real(number);
      break;
    default:
      break;
  }
  run.refuse(fmt::format("a number in the format '{}'", type == 0 ? ' ' : type));
}

void add_number(Builder& out, const Field& field, const Value& value) {
  std::string digits = digits_of(out.run(), field, value);
  if (field.thousands) digits = with_thousands(digits);
  const bool negative = value.is(Kind::real) ? std::signbit(value.real()) : value.integer() < 0;
  if (negative) {
    digits.insert(0, 1, '-');
  } else if (field.sign != '-') {
    digits.insert(0, 1, field.sign);
  }
  add_padded(out, field, digits, '>');
}

void add_text(Builder& out, const Field& field, std::string_view text, char default_align) {
  std::size_t end = 0;
  for (int i = 0; end < text.size() && i != field.precision; ++i) end += character_bytes(text, end);
  add_padded(out, field, text.substr(0, end), default_align);
}

/// The values of one `format % values`, in order.
class PercentValues {
 public:
  PercentValues(Run& run, const Value& given) : run_(run), given_(given) {
    is_tuple_ = given.is_sequence() && given.sequence().form == Sequence::Form::tuple;
  }

  const Value& next() {
    const std::size_t count = is_tuple_ ? given_.sequence().items.size() : 1;
    if (used_ >= count) run_.fail("not enough arguments for format string");
    return is_tuple_ ? given_.sequence().items[used_++] : (++used_, given_);
  }
  const Value& named(std::string_view name) {
    if (!given_.is_mapping()) run_.fail("format requires a mapping");
    const Value* found = given_.mapping().find(name);
    if (found == nullptr) run_.fail(fmt::format("KeyError: '{}'", name));
    used_ = SIZE_MAX;
    return *found;
  }
  void check_all_used() const {
    const std::size_t count = is_tuple_ ? given_.sequence().items.size() : 1;
    if (used_ < count && !given_.is_mapping()) {
      run_.fail("not all arguments converted during string formatting");
    }
  }

 private:
  Run& run_;
  const Value& given_;
  bool is_tuple_ = false;
  std::size_t used_ = 0;
};

void add_conversion(Builder& out, Field& field, const Value& value) {
  Run& run = out.run();
  switch (field.type) {
    case 's':
      return add_text(out, field, str(run, value), '>');
    case 'r':
      return add_text(out, field, repr(run, value), '>');
    case 'i':
    case 'u':
      field.type = 'd';
      break;
    default:
      break;
  }
  if (std::string_view("dxXofFeEgG").find(field.type) == std::string_view::npos) {
    run.refuse(fmt::format("the conversion '%{}'", field.type));
  }
  if (!value.is_number()) {
    run.fail(
        fmt::format("%{} format: a real number is required, not {}", field.type, type_name(value)));
  }
  if (field.type == 'd' && value.is(Kind::real)) {
    return add_number(out, field, Value(static_cast<std::int64_t>(value.real())));
  }
  add_number(out, field, value);
}

/// Of "{:...}": [[fill]align][sign][#][0][width][,][.precision][type].
Field read_spec(Run& run, std::string_view spec) {
  Field field;
  const auto is_align = [](char byte) { return std::string_view("<>^=").find(byte) < 4; };
  if (!spec.empty()) {
    const std::size_t first = character_bytes(spec, 0);
    if (first < spec.size() && is_align(spec[first])) {
      field.fill = spec.substr(0, first);
      field.align = spec[first];
      spec.remove_prefix(first + 1);
    } else if (is_align(spec[0])) {
      field.align = spec[0];
      spec.remove_prefix(1);
    }
  }
  const auto take = [&](std::string_view any) -> char {
    if (spec.empty() || any.find(spec[0]) == std::string_view::npos) return 0;
    const char byte = spec[0];
    spec.remove_prefix(1);
    return byte;
  };
  if (const char sign = take("+- ")) field.sign = sign;
  field.alternate = take("#") != 0;
  if (take("0") != 0 && field.align == 0) {
    field.fill.assign(1, '0');
    field.align = '=';
  }
  field.width = std::max(take_number(run, spec), 0);
  field.thousands = take(",") != 0;
  if (take(".") != 0) field.precision = take_number(run, spec);
  field.type = take("sdxXobfFeEgG%");
  if (!spec.empty()) run.refuse(fmt::format("the format '{}'", spec));
  return field;
}

/// The value that the name of a field means. `next`: the number of the next field without a name.
const Value& field_value(Run& run, std::string_view name, const Arguments& arguments,
                         std::size_t& next) {
  std::size_t place = 0;
  if (name.empty()) {
    place = next++;
  } else if (name[0] >= '0' && name[0] <= '9') {
    const int number = take_number(run, name);
    if (!name.empty()) run.refuse("attributes and keys in the fields of format()");
    place = static_cast<std::size_t>(number);
  } else {
    if (name.find_first_of(".[") != std::string_view::npos) {
      run.refuse("attributes and keys in the fields of format()");
    }
    const auto found =
        std::ranges::find_if(arguments.named, [&](const auto& one) { return one.first == name; });
    if (found == arguments.named.end()) run.fail(fmt::format("KeyError: '{}'", name));
    return found->second;
  }
  if (place >= arguments.positional.size()) {
    run.fail("Replacement index out of range for positional args tuple");
  }
  return arguments.positional[place];
}

void add_field(Builder& out, std::string_view inside, const Arguments& arguments,
               std::size_t& next) {
  Run& run = out.run();
  const std::size_t colon = inside.find(':');
  std::string_view name = inside.substr(0, colon);
  const std::string_view spec =
      colon == std::string_view::npos ? std::string_view() : inside.substr(colon + 1);
  if (spec.find('{') != std::string_view::npos) run.refuse("a field within a field of format()");
  const std::size_t mark = name.find('!');
  const std::string_view conversion =
      mark == std::string_view::npos ? std::string_view() : name.substr(mark);
  name = name.substr(0, mark);
  const Value& value = field_value(run, name, arguments, next);
  const Field field = read_spec(run, spec);
  if (conversion == "!r") return add_text(out, field, repr(run, value), '<');
  if (!conversion.empty() && conversion != "!s") {
    run.refuse(fmt::format("the conversion '{}'", conversion));
  }
  const bool as_number = value.is_number() && !value.is(Kind::boolean) && conversion.empty();
  if (as_number) return add_number(out, field, value);
  if (!value.is_text() && !spec.empty() && conversion.empty()) {
    run.fail(fmt::format("unsupported format string passed to {}.__format__", type_name(value)));
  }
  if (field.type != 0 && field.type != 's') {
    run.fail(fmt::format("Unknown format code '{}' for object of type 'str'", field.type));
  }
  add_text(out, field, str(run, value), '<');
}

}  // namespace

Value percent_format(Run& run, const std::string& format, const Value& right) {
  Builder out(run);
  PercentValues values(run, right);
  for (std::string_view rest = format; !rest.empty();) {
    const std::size_t mark = std::min(rest.find('%'), rest.size());
    out.add(rest.substr(0, mark));
    rest.remove_prefix(mark);
    if (rest.empty()) break;
    rest.remove_prefix(1);
    if (rest.starts_with('%')) {
      out.add("%");
      rest.remove_prefix(1);
      continue;
    }
    const Value* value = nullptr;
    if (rest.starts_with('(')) {
      const std::size_t end = rest.find(')');
      if (end == std::string_view::npos) run.fail("incomplete format key");
      value = &values.named(rest.substr(1, end - 1));
      rest.remove_prefix(end + 1);
    }
    Field field;
    for (; !rest.empty(); rest.remove_prefix(1)) {
      const char flag = rest[0];
      if (flag == '-') {
        field.align = '<';
        field.fill.assign(1, ' ');
      } else if (flag == '+' || (flag == ' ' && field.sign == '-')) {
        field.sign = flag;
      } else if (flag == '#') {
        field.alternate = true;
      } else if (flag != '0') {
        break;
      } else if (field.align == 0) {
        field.align = '=';
        field.fill.assign(1, '0');
      }
    }
    field.width = std::max(take_number(run, rest), 0);
    if (rest.starts_with('.')) {
      rest.remove_prefix(1);
      field.precision = std::max(take_number(run, rest), 0);
    }
    if (rest.empty()) run.fail("incomplete format");
    field.type = rest[0];
    rest.remove_prefix(1);
    add_conversion(out, field, value != nullptr ? *value : values.next());
  }
  values.check_all_used();
  return out.take_value();
}

Value brace_format(Run& run, const std::string& format, const Arguments& arguments) {
  Builder out(run);
  std::size_t next = 0;
  for (std::string_view rest = format; !rest.empty();) {
    const std::size_t mark = std::min(rest.find_first_of("{}"), rest.size());
    out.add(rest.substr(0, mark));
    rest.remove_prefix(mark);
    if (rest.empty()) break;
    if (rest.size() > 1 && rest[1] == rest[0]) {
      out.add(rest.substr(0, 1));
      rest.remove_prefix(2);
      continue;
    }
    const std::size_t end = rest.find('}');
    if (rest[0] == '}') run.fail("Single '}' encountered in format string");
    if (end == std::string_view::npos) run.fail("Single '{' encountered in format string");
    add_field(out, rest.substr(1, end - 1), arguments, next);
    rest.remove_prefix(end + 1);
  }
  return out.take_value();
}

}  // namespace sluice::launcher::jinja
