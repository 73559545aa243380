// JSON as grammars: values of any kind, strings with bounds, keys.
//
// White space: none around the whole value. Behind '{', '[' and ',' and before '}' and ']' there
// may be one blank, or one end of line with up to 32 blanks or 8 tabs behind it. Behind ':' there
// may be one blank. So a value can be compact or indented, and no model can go on with blanks for
// ever.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/builder.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

class JsonText {
 public:
  /// `builder` must outlive it.
  explicit JsonText(grammar::Builder& builder);

  grammar::Builder& builder() { return builder_; }

  grammar::Node any_value();
  grammar::Node any_object();
  grammar::Node any_array();
  grammar::Node any_number();
  grammar::Node any_integer();
  /// A string of `least` to `most` characters; most may be Builder::kUnbounded. An escape such as
  /// \n or \u00e9 is one character; escapes of surrogates are not written.
  grammar::Node string(std::int64_t least, std::int64_t most);
  /// One character of the set as a string has it: itself, or the short escape of what must be
  /// escaped. Control characters without a short escape are left out.
  grammar::Node string_character(const grammar::CharacterSet& set);
  grammar::Node quoted(grammar::Node content);

  /// The value, in one way: compact, or with a blank behind ':' and ','.
  grammar::Node literal(const Json& value);
  /// "key": with what may stand behind the colon.
  grammar::Node key(std::string_view name);
  /// The same for any key but these, without escapes in it.
  grammar::Node other_key(const std::vector<std::string>& names);

  grammar::Node space();  // beside brackets and commas
  grammar::Node comma();  // with what may stand behind it

 private:
  struct Tree;
  grammar::Node shared(const char* name, grammar::Node body);
  grammar::Node other_than(const Tree& tree);
  grammar::Node list_of(grammar::Node item, const char* open, const char* close);

  grammar::Builder& builder_;
  std::map<std::string, grammar::Node> shared_;
  std::map<grammar::CharacterSet, grammar::Node> characters_;
  grammar::Rule value_ = -1;
  grammar::Node any_key_character_ = -1;
};

}  // namespace sluice::launcher
