#include "launcher/structured/pattern.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "launcher/structured/text_cursor.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using grammar::Builder;
using grammar::CharacterSet;
using grammar::Node;

constexpr int kMostGroups = 100;  // inside each other
constexpr std::int64_t kMostCopies = 100'000;

CharacterSet set_of(std::initializer_list<grammar::CharacterRange> ranges) {
  CharacterSet set;
  for (const auto& range : ranges) set.add(range.low, range.high);
  return set;
}

CharacterSet digits() { return CharacterSet::of('0', '9'); }
CharacterSet word() { return set_of({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}); }
CharacterSet blanks() {
  return set_of({{'\t', '\r'},
                 {' ', ' '},
                 {0xA0, 0xA0},
                 {0x1680, 0x1680},
                 {0x2000, 0x200A},
                 {0x2028, 0x2029},
                 {0x202F, 0x202F},
                 {0x205F, 0x205F},
                 {0x3000, 0x3000},
                 {0xFEFF, 0xFEFF}});
}
CharacterSet any_but_line_ends() {
  return set_of({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}).complement();
}

class PatternParser {
 public:
  PatternParser(std::string_view pattern, Builder& builder, const PatternUse& use)
      : cursor_(pattern), builder_(builder), use_(use) {
    cursor_.call_it(use.name);
  }

  Node parse() {
    std::vector<Node> alternatives;
    do {
      alternatives.push_back(outer_alternative());
    } while (cursor_.take("|"));
    if (cursor_.peek() == ')') cursor_.fail("has a ')' without its '('; escape it as \\)");
    return builder_.choice(std::move(alternatives));
  }

 private:
  Node write(const CharacterSet& set) {
    if (set.empty()) return builder_.never();
    return use_.write ? use_.write(set) : builder_.character(set);
  }
  Node anything() { return builder_.repeat(write(CharacterSet::all()), 0, Builder::kUnbounded); }

  /// Outside of all groups, where anchors may stand.
  Node outer_alternative() {
    std::vector<Node> parts;
    const bool from_begin = cursor_.take("^");
    if (use_.search && !from_begin) parts.push_back(anything());
    bool to_end = false;
    while (!cursor_.at_end() && cursor_.peek() != '|' && cursor_.peek() != ')') {
      const bool last = cursor_.peek(1) == '|' || cursor_.peek(1) == '\0';
      if (cursor_.peek() == '$' && last) {
        cursor_.take("$");
        to_end = true;
        break;
      }
      parts.push_back(term());
    }
    if (use_.search && !to_end) parts.push_back(anything());
    return builder_.sequence(std::move(parts));
  }

  Node group() {
    if (++groups_ > kMostGroups) cursor_.fail("has too many groups inside each other");
    std::vector<Node> alternatives;
    do {
      std::vector<Node> parts;
      while (!cursor_.at_end() && cursor_.peek() != '|' && cursor_.peek() != ')') {
        parts.push_back(term());
      }
      alternatives.push_back(builder_.sequence(std::move(parts)));
    } while (cursor_.take("|"));
    if (!cursor_.take(")")) cursor_.fail("has a '(' without its ')'");
    --groups_;
    return builder_.choice(std::move(alternatives));
  }

  Node term() {
    const Node one = atom();
    std::int64_t least = 1;
    std::int64_t most = 1;
    if (!quantifier(least, most)) return one;
    cursor_.take("?");  // lazy: the same texts
    const char next = cursor_.peek();
    if (next == '*' || next == '+' || next == '?') {
      cursor_.fail(fmt::format("has a '{}' behind another quantifier", next));
    }
    return builder_.repeat(one, least, most);
  }

  bool quantifier(std::int64_t& least, std::int64_t& most) {
    if (cursor_.take("*")) {
      least = 0;
      most = Builder::kUnbounded;
    } else if (cursor_.take("+")) {
      most = Builder::kUnbounded;
    } else if (cursor_.take("?")) {
      least = 0;
    } else if (cursor_.take("{")) {
      const auto low = cursor_.take_number(kMostCopies);
      if (!low) cursor_.fail("has a '{' without a number behind it; escape it as \\{");
      least = most = *low;
      if (cursor_.take(",")) most = cursor_.take_number(kMostCopies).value_or(Builder::kUnbounded);
      if (!cursor_.take("}")) cursor_.fail("has a '{' without its '}'");
      if (most != Builder::kUnbounded && most < least) {
        cursor_.fail("has a quantifier {n,m} whose m is below its n");
      }
    } else {
      return false;
    }
    return true;
  }

  Node atom() {
    switch (cursor_.peek()) {
      case '(':
        return open_group();
      case '[':
        return write(char_class());
      case '.':
        cursor_.take(".");
        return write(any_but_line_ends());
      case '^':
      case '$':
        cursor_.fail(
            fmt::format("has the anchor '{}' in the middle or in a group, which is not "
                        "supported; escape it, or put it at an end",
                        cursor_.peek()));
      case '*':
      case '+':
      case '?':
      case '{':
        cursor_.fail(
            fmt::format("has a '{}' with nothing in front to repeat; escape it", cursor_.peek()));
      case '\\':
        return write(escape(false));
      default:
        return write(CharacterSet::of(cursor_.next()));
    }
  }

  Node open_group() {
    cursor_.take("(");
    if (!cursor_.take("?")) return group();
    if (cursor_.take(":")) return group();
    if (cursor_.peek() == '=' || cursor_.peek() == '!') {
      cursor_.fail("has a look-ahead (?= or (?!, which is not supported");
    }
    if (cursor_.starts("<=") || cursor_.starts("<!")) {
      cursor_.fail("has a look-behind (?<= or (?<!, which is not supported");
    }
    if (cursor_.take("<") || cursor_.take("P<")) {
      if (cursor_.take_name().empty() || !cursor_.take(">")) {
        cursor_.fail("has a group (?<name> without a name");
      }
      return group();
    }
    cursor_.fail("has flags or another extension behind '(?', which is not supported");
  }

  CharacterSet char_class() {
    cursor_.take("[");
    const bool negated = cursor_.take("^");
    if (cursor_.peek() == ']') cursor_.fail("has an empty class []; escape a ']' in it as \\]");
    CharacterSet set;
    while (!cursor_.take("]")) {
      if (cursor_.at_end()) cursor_.fail("has a '[' without its ']'");
      add_member(set);
    }
    return negated ? set.complement() : set;
  }

  void add_member(CharacterSet& set) {
    const CharacterSet first = class_atom();
    if (cursor_.peek() != '-' || cursor_.peek(1) == ']') return set.add(first);
    cursor_.take("-");
    if (cursor_.at_end()) cursor_.fail("has a '[' without its ']'");
    const CharacterSet last = class_atom();
    const auto single = [&](const CharacterSet& one) {
      const bool is_single =
          one.ranges().size() == 1 && one.ranges().front().low == one.ranges().front().high;
      if (!is_single) cursor_.fail("has a range in [] with an end that is no single character");
      return one.ranges().front().low;
    };
    const char32_t low = single(first);
    const char32_t high = single(last);
    if (low > high) cursor_.fail("has a range in [] whose end is before its begin");
    set.add(low, high);
  }

  CharacterSet class_atom() {
    if (cursor_.peek() == '\\') return escape(true);
    return CharacterSet::of(cursor_.next());
  }

  CharacterSet escape(bool in_class) {
    cursor_.take("\\");
    if (cursor_.at_end()) cursor_.fail("ends with a single '\\'");
    if (const auto set = set_escape(cursor_.peek())) {
      cursor_.next();
      return *set;
    }
    if (in_class && cursor_.take("b")) return CharacterSet::of('\b');
    return CharacterSet::of(character_escape());
  }

  static std::optional<CharacterSet> set_escape(char letter) {
    switch (letter) {
      case 'd':
        return digits();
      case 'D':
        return digits().complement();
      case 'w':
        return word();
      case 'W':
        return word().complement();
      case 's':
        return blanks();
      case 'S':
        return blanks().complement();
      default:
        return std::nullopt;
    }
  }

  char32_t character_escape() {
    const char32_t letter = cursor_.next();
    switch (letter) {
      case 't':
        return '\t';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case '0':
        return '\0';
      case 'x':
        return cursor_.take_hex(2);
      case 'u':
        return unicode_escape();
      case 'b':
      case 'B':
        cursor_.fail("has a word boundary \\b or \\B, which is not supported");
      case 'p':
      case 'P':
        cursor_.fail("has a property \\p or \\P, which is not supported; write a class");
      case 'k':
        cursor_.fail("has a back reference \\k, which is not supported");
      default:
        break;
    }
    if (letter >= '1' && letter <= '9') {
      cursor_.fail("has a back reference, which is not supported");
    }
    if ((letter | 0x20) >= 'a' && (letter | 0x20) <= 'z' && letter < 0x80) {
      cursor_.fail(
          fmt::format("has the escape \\{}, which is not supported", static_cast<char>(letter)));
    }
    return letter;
  }

  char32_t unicode_escape() {
    char32_t value = 0;
    if (cursor_.take("{")) {
      int digits_left = 6;
      while (!cursor_.take("}")) {
        if (digits_left-- == 0) cursor_.fail("has an escape \\u{...} of more than 6 digits");
        value = value << 4 | cursor_.take_hex(1);
      }
    } else {
      value = cursor_.take_hex(4);
      if (value >= 0xD800 && value < 0xDC00 && cursor_.take("\\u")) {
        const char32_t low = cursor_.take_hex(4);
        value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        if (low < 0xDC00 || low > 0xDFFF) value = 0xD800;
      }
    }
    if (value > grammar::kLastCharacter || (value >= 0xD800 && value <= 0xDFFF)) {
      cursor_.fail("has an escape \\u that is no character");
    }
    return value;
  }

  TextCursor cursor_;
  Builder& builder_;
  const PatternUse& use_;
  int groups_ = 0;
};

}  // namespace

Node pattern_node(std::string_view pattern, Builder& builder, const PatternUse& use) {
  return PatternParser(pattern, builder, use).parse();
}

}  // namespace sluice::launcher
