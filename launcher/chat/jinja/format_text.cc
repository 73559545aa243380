#include "launcher/chat/jinja/format_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launcher/chat/jinja/characters.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

void add_repr(Builder& out, const Value& value);

void add_items(Builder& out, const Sequence& sequence) {
  const bool is_tuple = sequence.form == Sequence::Form::tuple;
  if (sequence.form == Sequence::Form::view) {
    out.add(sequence.name);
    out.add("(");
  }
  out.add(is_tuple ? "(" : "[");
  for (std::size_t i = 0; i < sequence.items.size(); ++i) {
    if (i > 0) out.add(", ");
    add_repr(out, sequence.items[i]);
  }
  if (is_tuple && sequence.items.size() == 1) out.add(",");
  out.add(is_tuple ? ")" : "]");
  if (sequence.form == Sequence::Form::view) out.add(")");
}

void add_repr(Builder& out, const Value& value) {
  out.run().step();
  switch (value.kind()) {
    case Kind::none:
      return out.add("None");
    case Kind::undefined:
      return out.add("Undefined");
    case Kind::boolean:
      return out.add(value.boolean() ? "True" : "False");
    case Kind::integer:
      return out.add(fmt::format("{}", value.integer()));
    case Kind::real:
      return out.add(repr_of_real(value.real()));
    case Kind::text:
      out.run().scan(4 * value.bytes().size());
      return out.add(repr_of_text(value.bytes()));
    case Kind::sequence:
      if (value.sequence().form == Sequence::Form::generator ||
          value.sequence().form == Sequence::Form::range) {
        break;
      }
      return add_items(out, value.sequence());
    case Kind::mapping: {
      out.add("{");
      const auto& members = value.mapping().members;
      for (std::size_t i = 0; i < members.size(); ++i) {
        if (i > 0) out.add(", ");
        add_repr(out, members[i].first);
        out.add(": ");
        add_repr(out, members[i].second);
      }
      return out.add("}");
    }
    default:
      break;
  }
  out.run().refuse(fmt::format("printing a value of the type '{}'", type_name(value)));
}

/// Into JSON's text, without quotation marks.
std::string escaped(std::string_view text, bool ascii) {
  constexpr std::string_view kNamed = "\"\\\n\r\t\f\b";
  constexpr std::string_view kLetters = "\"\\nrtfb";
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text, at)) {
    const std::string_view part = text.substr(at, character_bytes(text, at));
    const auto code = static_cast<unsigned>(first_character(part));
    if (const std::size_t place = kNamed.find(part[0]); place != std::string_view::npos) {
      out += '\\';
      out += kLetters[place];
    } else if (code >= 0x20 && (!ascii || code < 0x7F)) {
      out += part;
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10),
                         0xDC00 + ((code - 0x10000) & 0x3FF));
    }
  }
  return out;
}

class JsonText {
 public:
  JsonText(Run& run, const JsonStyle& style) : out_(run), style_(style) {}

  void add(const Value& value, int level) {
    out_.run().step();
    switch (value.kind()) {
      case Kind::none:
        return out_.add("null");
      case Kind::boolean:
        return out_.add(value.boolean() ? "true" : "false");
      case Kind::integer:
        return out_.add(fmt::format("{}", value.integer()));
      case Kind::real:
        return out_.add(real(value.real()));
      case Kind::text:
        return add_text(value.bytes());
      case Kind::mapping:
        return add_members(value.mapping(), level);
      case Kind::sequence:
        if (value.sequence().form == Sequence::Form::list ||
            value.sequence().form == Sequence::Form::tuple) {
          return add_items(value.sequence().items, level);
        }
        break;
      default:
        break;
    }
    out_.run().fail(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
  }
  Value take() { return out_.take_value(); }

 private:
  static std::string real(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return repr_of_real(value);
  }
  void add_text(std::string_view text) {
    out_.run().scan(4 * text.size());
    out_.add("\"");
    out_.add(escaped(text, style_.ascii));
    out_.add("\"");
  }
  void new_line(int level) {
    if (!style_.has_indent) return;
    out_.add("\n");
    for (int i = 0; i < level; ++i) out_.add(style_.indent);
  }
  void add_items(const Values& items, int level) {
    if (items.empty()) return out_.add("[]");
    out_.add("[");
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.add(style_.between_items);
      new_line(level + 1);
      add(items[i], level + 1);
    }
    new_line(level);
    out_.add("]");
  }
  void add_key(const Value& key) {
    Run& run = out_.run();
    if (key.is_text()) return add_text(key.bytes());
    if (key.is_none()) return add_text("null");
    if (key.is(Kind::boolean)) return add_text(key.boolean() ? "true" : "false");
    if (key.is(Kind::real)) return add_text(real(key.real()));
    if (key.is(Kind::integer)) return add_text(str(run, key));
    run.fail(fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
  }
  void add_members(const Mapping& mapping, int level) {
    if (mapping.members.empty()) return out_.add("{}");
    std::vector<Mapping::Member> members = mapping.members;
    if (style_.sorted) {
      std::ranges::stable_sort(members, [&](const auto& one, const auto& other) {
        return less(out_.run(), one.first, other.first);
      });
    }
    out_.add("{");
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (i > 0) out_.add(style_.between_items);
      new_line(level + 1);
      add_key(members[i].first);
      out_.add(style_.behind_key);
      add(members[i].second, level + 1);
    }
    new_line(level);
    out_.add("}");
  }

  Builder out_;
  const JsonStyle& style_;
};

}  // namespace

std::string repr_of_real(double value) {
  if (std::isnan(value)) return "nan";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".enf") == std::string::npos) text += ".0";
  return text;
}

std::string repr_of_text(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text, at)) {
    const std::string_view part = text.substr(at, character_bytes(text, at));
    const auto code = static_cast<unsigned>(first_character(part));
    if (part[0] == quote || part[0] == '\\') {
      out += '\\';
      out += part;
    } else if (part == "\n" || part == "\r" || part == "\t") {
      out += part == "\n" ? "\\n" : part == "\r" ? "\\r" : "\\t";
    } else if (is_printable(code)) {
      out += part;
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", code);
    } else {
      out += code < 0x10000 ? fmt::format("\\u{:04x}", code) : fmt::format("\\U{:08x}", code);
    }
  }
  out += quote;
  return out;
}

std::string repr(Run& run, const Value& value) {
  Builder out(run);
  add_repr(out, value);
  return out.take();
}

std::string str(Run& run, const Value& value) {
  if (value.is_text()) return value.bytes();
  if (value.is_undefined()) return "";
  return repr(run, value);
}

Value to_json(Run& run, const Value& value, const JsonStyle& style) {
  JsonText text(run, style);
  text.add(value, 0);
  return text.take();
}

}  // namespace sluice::launcher::jinja
