#include "launcher/structured/gbnf.h"

#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "launcher/structured/text_cursor.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using grammar::Builder;
using grammar::CharacterSet;
using grammar::Node;
using grammar::Rule;

constexpr int kMostGroups = 100;  // inside each other
constexpr std::int64_t kMostCopies = 100'000;

class GbnfParser {
 public:
  GbnfParser(std::string_view text, Builder& builder) : cursor_(text), builder_(builder) {
    cursor_.call_it("grammar");
  }

  Rule parse() {
    skip_blanks(true);
    while (!cursor_.at_end()) {
      parse_rule();
      skip_blanks(true);
    }
    const auto root = rules_.find("root");
    if (root == rules_.end() || !root->second.defined) cursor_.fail("has no rule 'root'");
    return root->second.number;
  }

 private:
  struct Known {
    Rule number = -1;
    bool defined = false;
  };

  void skip_blanks(bool over_lines) {
    for (;;) {
      const char here = cursor_.peek();
      if (here == '#') {
        while (!cursor_.at_end() && cursor_.peek() != '\n') cursor_.next();
      } else if (here == ' ' || here == '\t' || (over_lines && (here == '\n' || here == '\r'))) {
        cursor_.next();
      } else {
        return;
      }
    }
  }

  Known& known(std::string_view name) {
    Known& found = rules_[std::string(name)];
    if (found.number < 0) found.number = builder_.declare(std::string(name));
    return found;
  }

  void parse_rule() {
    const std::string_view name = cursor_.take_name();
    if (name.empty()) cursor_.fail("has no rule's name where one should begin");
    skip_blanks(false);
    if (!cursor_.take("::=")) cursor_.fail(fmt::format("has no '::=' behind the name '{}'", name));
    skip_blanks(true);
    const Node body = alternatives(false);
    Known& rule = known(name);
    if (rule.defined) cursor_.fail(fmt::format("has the rule '{}' twice", name));
    rule.defined = true;
    builder_.define(rule.number, body);
    if (!cursor_.at_end() && cursor_.peek() != '\n' && cursor_.peek() != '\r') {
      cursor_.fail(fmt::format("has something in the rule '{}' that is no part of one", name));
    }
  }

  /// A rule ends with its line, but in a group, and behind a '|'.
  Node alternatives(bool in_group) {
    std::vector<Node> found;
    found.push_back(sequence(in_group));
    while (cursor_.take("|")) {
      skip_blanks(true);
      found.push_back(sequence(in_group));
    }
    return builder_.choice(std::move(found));
  }

  Node sequence(bool in_group) {
    std::vector<Node> parts;
    for (;;) {
      skip_blanks(in_group);
      const char here = cursor_.peek();
      if (cursor_.at_end() || here == '|' || here == ')' || here == '\n' || here == '\r') break;
      parts.push_back(repeated(item()));
    }
    return builder_.sequence(std::move(parts));
  }

  Node item() {
    if (cursor_.take("(")) {
      if (++groups_ > kMostGroups) cursor_.fail("has too many groups inside each other");
      skip_blanks(true);
      const Node group = alternatives(true);
      if (!cursor_.take(")")) cursor_.fail("has a '(' without its ')'");
      --groups_;
      return group;
    }
    if (cursor_.take("\"")) return text();
    if (cursor_.take("[")) return char_class();
    if (cursor_.take(".")) return builder_.character(CharacterSet::all());
    if (cursor_.peek() == '<' || cursor_.starts("!<")) {
      cursor_.fail("has a token <...>, which is not supported; write its text");
    }
    const std::string_view name = cursor_.take_name();
    if (name.empty()) cursor_.fail("has something that begins no item of a rule");
    return builder_.call(known(name).number);
  }

  Node repeated(Node one) {
    for (;;) {
      if (cursor_.take("*")) {
        one = builder_.repeat(one, 0, Builder::kUnbounded);
      } else if (cursor_.take("+")) {
        one = builder_.repeat(one, 1, Builder::kUnbounded);
      } else if (cursor_.take("?")) {
        one = builder_.optional(one);
      } else if (cursor_.take("{")) {
        one = counted(one);
      } else {
        return one;
      }
    }
  }

  Node counted(Node one) {
    skip_blanks(false);
    const auto low = cursor_.take_number(kMostCopies);
    skip_blanks(false);
    const bool comma = cursor_.take(",");
    if (!low && !comma) cursor_.fail("has a '{' without a number behind it");
    skip_blanks(false);
    const std::int64_t least = low.value_or(0);
    std::int64_t most = least;
    if (comma) most = cursor_.take_number(kMostCopies).value_or(Builder::kUnbounded);
    skip_blanks(false);
    if (!cursor_.take("}")) cursor_.fail("has a '{' without its '}'");
    if (most != Builder::kUnbounded && most < least) {
      cursor_.fail("has a repeat {n,m} whose m is below its n");
    }
    return builder_.repeat(one, least, most);
  }

  Node text() {
    std::string bytes;
    while (!cursor_.take("\"")) {
      if (cursor_.at_end() || cursor_.peek() == '\n')
        cursor_.fail("has a text without its end '\"'");
      append_character(bytes, character());
    }
    return builder_.text(bytes);
  }

  Node char_class() {
    const bool negated = cursor_.take("^");
    CharacterSet set;
    while (!cursor_.take("]")) {
      if (cursor_.at_end() || cursor_.peek() == '\n') cursor_.fail("has a '[' without its ']'");
      const char32_t low = character();
      char32_t high = low;
      if (cursor_.peek() == '-' && cursor_.peek(1) != ']') {
        cursor_.take("-");
        if (cursor_.at_end()) cursor_.fail("has a '[' without its ']'");
        high = character();
      }
      if (low > high) cursor_.fail("has a range in [] whose end is before its begin");
      set.add(low, high);
    }
    if (negated) set = set.complement();
    return set.empty() ? builder_.never() : builder_.character(set);
  }

  char32_t character() {
    const char32_t first = cursor_.next();
    if (first != '\\') return first;
    if (cursor_.at_end()) cursor_.fail("ends with a single '\\'");
    const char32_t letter = cursor_.next();
    char32_t value = letter;
    switch (letter) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        value = cursor_.take_hex(2);
        break;
      case 'u':
        value = cursor_.take_hex(4);
        break;
      case 'U':
        value = cursor_.take_hex(8);
        break;
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return letter;
      default:
        cursor_.fail("has an escape that GBNF does not have");
    }
    if (value > grammar::kLastCharacter || (value >= 0xD800 && value <= 0xDFFF)) {
      cursor_.fail("has an escape that is no character");
    }
    return value;
  }

  TextCursor cursor_;
  Builder& builder_;
  std::map<std::string, Known> rules_;
  int groups_ = 0;
};

}  // namespace

Rule gbnf_rule(std::string_view text, Builder& builder) {
  return GbnfParser(text, builder).parse();
}

}  // namespace sluice::launcher
