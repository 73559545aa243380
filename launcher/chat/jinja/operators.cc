#include "launcher/chat/jinja/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/format_text.h"

namespace sluice::launcher::jinja {
namespace {

const char* sign_of(Operator what) {
  constexpr const char* kSigns[] = {"+",  "-", "*",  "/", "//", "%",  "** or pow()", "==",
                                    "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSigns[static_cast<std::size_t>(what)];
}

[[noreturn]] void refuse_operands(Run& run, Operator what, const Value& left, const Value& right) {
  run.fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", sign_of(what),
                       type_name(left), type_name(right)));
}

/// By reference: the operation that says whether it overflowed writes the result, too.
std::int64_t fitting(Run& run, bool overflowed, const std::int64_t& result) {
  if (overflowed) run.refuse("an integer of more than 64 bits");
  return result;
}

std::int64_t integer_power(Run& run, std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0; --exponent) {  // ends after 63 rounds: it overflows
    const bool overflowed = __builtin_mul_overflow(result, base, &result);
    fitting(run, overflowed, result);
  }
  return result;
}

Value compute_integers(Run& run, Operator what, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  if ((what == Operator::floor_divide || what == Operator::modulo || what == Operator::divide) &&
      right == 0) {
    run.fail("division by zero");
  }
  switch (what) {
    case Operator::add:
      return Value(fitting(run, __builtin_add_overflow(left, right, &result), result));
    case Operator::subtract:
      return Value(fitting(run, __builtin_sub_overflow(left, right, &result), result));
    case Operator::multiply:
      return Value(fitting(run, __builtin_mul_overflow(left, right, &result), result));
    case Operator::divide:
      return Value(static_cast<double>(left) / static_cast<double>(right));
    case Operator::power:
      if (right < 0) return Value(std::pow(static_cast<double>(left), static_cast<double>(right)));
      return Value(integer_power(run, left, right));
    default:
      break;
  }
  if (right == -1) {  // the one quotient that may not fit
    if (what == Operator::modulo) return Value(std::int64_t{0});
    return Value(fitting(run, __builtin_sub_overflow(std::int64_t{0}, left, &result), result));
  }
  std::int64_t quotient = left / right;
  std::int64_t rest = left % right;
  if (rest != 0 && (rest < 0) != (right < 0)) {  // Python rounds down
    --quotient;
    rest += right;
  }
  return Value(what == Operator::modulo ? rest : quotient);
}

Value compute_reals(Run& run, Operator what, double left, double right) {
  if ((what == Operator::divide || what == Operator::floor_divide || what == Operator::modulo) &&
      right == 0) {
    run.fail("float division by zero");
  }
  switch (what) {
    case Operator::add:
      return Value(left + right);
    case Operator::subtract:
      return Value(left - right);
    case Operator::multiply:
      return Value(left * right);
    case Operator::divide:
      return Value(left / right);
    case Operator::power: {
      const double result = std::pow(left, right);
      if (std::isfinite(left) && std::isfinite(right) && !std::isfinite(result)) {
        run.fail("the result of ** is no number, or too large");
      }
      return Value(result);
    }
    default:
      break;
  }
  double rest = std::fmod(left, right);
  if (rest != 0 && (rest < 0) != (right < 0)) rest += right;
  if (what == Operator::modulo) return Value(rest == 0 ? std::copysign(0.0, right) : rest);
  return Value(std::round((left - rest) / right));
}

Value repeat(Run& run, const Value& what, std::int64_t count) {
  const std::size_t times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  if (what.is_text()) {
    const std::string& bytes = what.bytes();
    if (!bytes.empty() && times > run.limits().live_bytes / bytes.size()) {
      run.check_room(run.limits().live_bytes + 1);
    }
    Builder out(run);
    for (std::size_t i = 0; i < times && !bytes.empty(); ++i) out.add(bytes);
    return out.take_value();
  }
  const Sequence& sequence = what.sequence();
  Values items;
  for (std::size_t i = 0; i < times && !sequence.items.empty(); ++i) {
    run.step(sequence.items.size());
    run.check_room((items.size() + sequence.items.size()) * sizeof(Value));
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return run.sequence(sequence.form, std::move(items), sequence.name);
}

bool is_repeatable(const Value& value) {
  return value.is_text() ||
         (value.is_sequence() && (value.sequence().form == Sequence::Form::list ||
                                  value.sequence().form == Sequence::Form::tuple));
}

Value add(Run& run, const Value& left, const Value& right) {
  if (left.is_text() && right.is_text()) {
    if (left.text().safe || right.text().safe) {
      run.refuse("+ (in place of ~) with a text that the filter 'safe' made");
    }
    Builder out(run);
    out.add(left.bytes());
    out.add(right.bytes());
    return out.take_value();
  }
  if (left.is_text()) {
    run.fail(fmt::format("can only concatenate str (not \"{}\") to str", type_name(right)));
  }
  if (is_repeatable(left) && right.is_sequence() && left.sequence().form == right.sequence().form) {
    Values items = left.sequence().items;
    const Values& more = right.sequence().items;
    run.step(items.size() + more.size());
    items.insert(items.end(), more.begin(), more.end());
    return run.sequence(left.sequence().form, std::move(items), left.sequence().name);
  }
  refuse_operands(run, Operator::add, left, right);
}

}  // namespace

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
    case Kind::undefined:
      return false;
    case Kind::boolean:
      return value.boolean();
    case Kind::integer:
      return value.integer() != 0;
    case Kind::real:
      return value.real() != 0;
    case Kind::text:
      return !value.bytes().empty();
    case Kind::sequence:
      return value.sequence().form == Sequence::Form::generator || !value.sequence().items.empty();
    case Kind::mapping:
      return !value.mapping().members.empty();
    default:
      return true;
  }
}

Value compute(Run& run, Operator what, const Value& left, const Value& right) {
  check_defined(run, left);
  check_defined(run, right);
  if (left.is_integral() && right.is_integral()) {
    return compute_integers(run, what, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return compute_reals(run, what, left.real(), right.real());
  }
  if (what == Operator::add) return add(run, left, right);
  if (what == Operator::multiply) {
    if (is_repeatable(left) && right.is_integral()) return repeat(run, left, right.integer());
    if (is_repeatable(right) && left.is_integral()) return repeat(run, right, left.integer());
  }
  if (what == Operator::modulo && left.is_text()) return percent_format(run, left.bytes(), right);
  refuse_operands(run, what, left, right);
}

Value negate(Run& run, const Value& value) {
  check_defined(run, value);
  if (value.is(Kind::real)) return Value(-value.real());
  if (!value.is_integral()) {
    run.fail(fmt::format("bad operand type for unary -: '{}'", type_name(value)));
  }
  return compute(run, Operator::subtract, Value(std::int64_t{0}), value);
}

bool equal(Run& run, const Value& left, const Value& right) {
  run.step();
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.integer() == right.integer();
    return left.real() == right.real();
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::none:
    case Kind::undefined:
      return true;
    case Kind::text:
      run.scan(left.bytes().size());
      return left.bytes() == right.bytes();
    case Kind::sequence: {
      const Sequence& a = left.sequence();
      const Sequence& b = right.sequence();
      if (&a == &b) return true;
      if (a.form != b.form || a.form == Sequence::Form::generator) return false;
      return std::ranges::equal(a.items, b.items, [&](const Value& one, const Value& other) {
        return equal(run, one, other);
      });
    }
    case Kind::mapping: {
      const auto& a = left.mapping().members;
      const auto& b = right.mapping().members;
      return a.size() == b.size() && std::ranges::all_of(a, [&](const Mapping::Member& member) {
               run.step(b.size() / 4);
               const auto same = std::ranges::find_if(b, [&](const Mapping::Member& other) {
                 return equal(run, member.first, other.first);
               });
               return same != b.end() && equal(run, member.second, same->second);
             });
    }
    default:
      return left.is_same(right);
  }
}

bool less(Run& run, const Value& left, const Value& right, const char* sign) {
  run.step();
  check_defined(run, left);
  check_defined(run, right);
  if (left.is_integral() && right.is_integral()) return left.integer() < right.integer();
  if (left.is_number() && right.is_number()) return left.real() < right.real();
  if (left.is_text() && right.is_text()) {
    run.scan(left.bytes().size());
    return left.bytes() < right.bytes();  // bytes of UTF-8 are in the order of code points
  }
  if (is_repeatable(left) && is_repeatable(right) && left.is_sequence() && right.is_sequence() &&
      left.sequence().form == right.sequence().form) {
    const Values& a = left.sequence().items;
    const Values& b = right.sequence().items;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal(run, a[i], b[i])) return less(run, a[i], b[i], sign);
    }
    return a.size() < b.size();
  }
  const bool swapped = sign[0] == '>';  // it was asked for as right > left
  run.fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", sign,
                       type_name(swapped ? right : left), type_name(swapped ? left : right)));
}

bool compare(Run& run, Operator what, const Value& left, const Value& right) {
  switch (what) {
    case Operator::equal:
      return equal(run, left, right);
    case Operator::not_equal:
      return !equal(run, left, right);
    case Operator::less:
      return less(run, left, right);
    case Operator::less_equal:
      return less(run, left, right, "<=") || equal(run, left, right);
    case Operator::greater:
      return less(run, right, left, ">");
    case Operator::greater_equal:
      return less(run, right, left, ">=") || equal(run, left, right);
    case Operator::in:
      return contains(run, right, left);
    default:
      return !contains(run, right, left);
  }
}

void check_hashable(Run& run, const Value& key) {
  const bool bad = key.is_mapping() || key.is(Kind::names) ||
                   (key.is_sequence() && key.sequence().form == Sequence::Form::list);
  if (bad) run.fail(fmt::format("unhashable type: '{}'", type_name(key)));
  if (!key.is_sequence()) return;
  for (const Value& part : key.sequence().items) check_hashable(run, part);
}

void check_defined(Run& run, const Value& value) {
  if (value.is_undefined()) run.fail(value.missing().message);
}

}  // namespace sluice::launcher::jinja
