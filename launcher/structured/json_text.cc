#include "launcher/structured/json_text.h"

#include <memory>
#include <utility>

#include "launcher/structured/decimal_numbers.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using grammar::Builder;
using grammar::CharacterSet;
using grammar::Node;

constexpr std::int64_t kMostBlanks = 32;  // behind an end of line
constexpr std::int64_t kMostTabs = 8;

struct ShortEscape {
  char character;
  const char* text;
};
constexpr ShortEscape kShortEscapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"},
                                         {'\f', "\\f"}, {'\n', "\\n"},  {'\r', "\\r"},
                                         {'\t', "\\t"}};

/// What a string may have as it is.
CharacterSet unescaped() {
  CharacterSet set = CharacterSet::of(0, 0x1F);
  set.add('"', '"');
  set.add('\\', '\\');
  return set.complement();
}

}  // namespace

JsonText::JsonText(Builder& builder) : builder_(builder) {}

/// A rule of its own, made once.
Node JsonText::shared(const char* name, Node body) {
  const grammar::Rule rule = builder_.declare(name);
  builder_.define(rule, body);
  return shared_[name] = builder_.call(rule);
}

Node JsonText::space() {
  if (const auto found = shared_.find("space"); found != shared_.end()) return found->second;
  const Node blanks = builder_.choice({builder_.repeat(builder_.text(" "), 0, kMostBlanks),
                                       builder_.repeat(builder_.text("\t"), 1, kMostTabs)});
  return shared("space", builder_.choice({builder_.nothing(), builder_.text(" "),
                                          builder_.sequence({builder_.text("\n"), blanks})}));
}

Node JsonText::comma() { return builder_.sequence({builder_.text(","), space()}); }

Node JsonText::string_character(const CharacterSet& set) {
  if (const auto found = characters_.find(set); found != characters_.end()) return found->second;
  std::vector<Node> alternatives;
  const CharacterSet plain = set.common(unescaped());
  if (!plain.empty()) alternatives.push_back(builder_.character(plain));
  for (const ShortEscape& escape : kShortEscapes) {
    if (set.has(static_cast<char32_t>(escape.character))) {
      alternatives.push_back(builder_.text(escape.text));
    }
  }
  Node made = builder_.choice(std::move(alternatives));
  const grammar::Rule rule = builder_.declare("a character of a string");
  builder_.define(rule, made);
  made = builder_.call(rule);
  characters_.emplace(set, made);
  return made;
}

Node JsonText::quoted(Node content) {
  return builder_.sequence({builder_.text("\""), content, builder_.text("\"")});
}

Node JsonText::string(std::int64_t least, std::int64_t most) {
  const auto found = shared_.find("character");
  Node character = found == shared_.end() ? -1 : found->second;
  if (character < 0) {
    std::vector<Node> forms = {builder_.character(unescaped())};
    for (const ShortEscape& escape : kShortEscapes) forms.push_back(builder_.text(escape.text));
    forms.push_back(builder_.text("\\/"));
    const Node low = builder_.choice(
        {builder_.bytes('0', '9'), builder_.bytes('a', 'f'), builder_.bytes('A', 'F')});
    const Node not_d = builder_.choice({builder_.bytes('0', '9'), builder_.bytes('a', 'c'),
                                        builder_.bytes('A', 'C'), builder_.bytes('e', 'f'),
                                        builder_.bytes('E', 'F')});
    const Node d = builder_.choice({builder_.text("d"), builder_.text("D")});
    const Node first_two =
        builder_.choice({builder_.sequence({not_d, low}),
                         builder_.sequence({d, builder_.bytes('0', '7')})});  // no surrogate
    forms.push_back(builder_.sequence({builder_.text("\\u"), first_two, low, low}));
    character = shared("character", builder_.choice(std::move(forms)));
  }
  return quoted(builder_.repeat(character, least, most));
}

Node JsonText::any_number() {
  if (const auto found = shared_.find("number"); found != shared_.end()) return found->second;
  return shared("number", any_number_node(builder_));
}

Node JsonText::any_integer() {
  if (const auto found = shared_.find("integer"); found != shared_.end()) return found->second;
  return shared("integer", integer_node(builder_, -kMostInteger, kMostInteger));
}

Node JsonText::list_of(Node item, const char* open, const char* close) {
  const Node more = builder_.repeat(builder_.sequence({comma(), item}), 0, Builder::kUnbounded);
  return builder_.sequence({builder_.text(open), space(),
                            builder_.optional(builder_.sequence({item, more, space()})),
                            builder_.text(close)});
}

Node JsonText::any_object() {
  if (const auto found = shared_.find("object"); found != shared_.end()) return found->second;
  const Node value = any_value();
  // any_value() has made it, unless this is its own call.
  if (const auto found = shared_.find("object"); found != shared_.end()) return found->second;
  const Node name = string(0, Builder::kUnbounded);
  const Node colon = builder_.sequence({builder_.text(":"), builder_.optional(builder_.text(" "))});
  return shared("object", list_of(builder_.sequence({name, colon, value}), "{", "}"));
}

Node JsonText::any_array() {
  if (const auto found = shared_.find("array"); found != shared_.end()) return found->second;
  const Node value = any_value();
  if (const auto found = shared_.find("array"); found != shared_.end()) return found->second;
  return shared("array", list_of(value, "[", "]"));
}

Node JsonText::any_value() {
  if (value_ >= 0) return builder_.call(value_);
  value_ = builder_.declare("value");
  builder_.define(
      value_,
      builder_.choice({any_object(), any_array(), string(0, Builder::kUnbounded), any_number(),
                       builder_.text("true"), builder_.text("false"), builder_.text("null")}));
  return builder_.call(value_);
}

Node JsonText::literal(const Json& value) {
  const Node blank = builder_.optional(builder_.text(" "));
  if (value.is_array()) {
    std::vector<Node> parts = {builder_.text("[")};
    for (const Json& item : value) {
      if (parts.size() > 1) parts.push_back(builder_.sequence({builder_.text(","), blank}));
      parts.push_back(literal(item));
    }
    parts.push_back(builder_.text("]"));
    return builder_.sequence(std::move(parts));
  }
  if (value.is_object()) {
    std::vector<Node> parts = {builder_.text("{")};
    for (const auto& [name, member] : value.items()) {
      if (parts.size() > 1) parts.push_back(builder_.sequence({builder_.text(","), blank}));
      parts.push_back(key(name));
      parts.push_back(literal(member));
    }
    parts.push_back(builder_.text("}"));
    return builder_.sequence(std::move(parts));
  }
  return builder_.text(value.dump());
}

Node JsonText::key(std::string_view name) {
  return builder_.sequence(
      {builder_.text(Json(name).dump() + ":"), builder_.optional(builder_.text(" "))});
}

/// Names by their characters, as a tree.
struct JsonText::Tree {
  std::map<char32_t, std::unique_ptr<Tree>> behind;
  bool is_name = false;

  void add(std::string_view name) {
    Tree* tree = this;
    for (std::size_t at = 0, bytes = 0; at < name.size(); at += bytes) {
      std::unique_ptr<Tree>& next = tree->behind[character_at(name, at, bytes)];
      if (!next) next = std::make_unique<Tree>();
      tree = next.get();
    }
    tree->is_name = true;
  }
};

/// All texts without escapes that do not end at a name of the tree.
Node JsonText::other_than(const Tree& tree) {
  CharacterSet others = unescaped();
  std::vector<Node> alternatives;
  if (!tree.is_name) alternatives.push_back(builder_.nothing());
  CharacterSet taken;
  for (const auto& [character, behind] : tree.behind) {
    taken.add(character, character);
    if (!unescaped().has(character)) continue;
    alternatives.push_back(
        builder_.sequence({builder_.character(CharacterSet::of(character)), other_than(*behind)}));
  }
  others = others.common(taken.complement());
  alternatives.push_back(builder_.sequence(
      {builder_.character(others), builder_.repeat(any_key_character_, 0, Builder::kUnbounded)}));
  return builder_.choice(std::move(alternatives));
}

Node JsonText::other_key(const std::vector<std::string>& names) {
  any_key_character_ = builder_.character(unescaped());
  Tree tree;
  for (const std::string& name : names) tree.add(name);
  return builder_.sequence(
      {quoted(other_than(tree)), builder_.text(":"), builder_.optional(builder_.text(" "))});
}

}  // namespace sluice::launcher
