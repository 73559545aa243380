// One schema on its way to a grammar; see json_schema.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/builder.h"
#include "launcher/json/json.h"
#include "launcher/structured/json_text.h"

namespace sluice::launcher {

class SchemaReader {
 public:
  SchemaReader(const Json& root, grammar::Builder& builder)
      : root_(root), builder_(builder), text_(builder) {}

  /// A value of `schema`. Throws GrammarProblem.
  grammar::Node value(const Json& schema);
  grammar::Node rule_of(const Json& reference);

 private:
  using Node = grammar::Node;
  class Deeper;

  // By keyword (schema_reader.cc).
  void check_keywords(const Json& schema) const;
  Json resolved(Json schema, int depth = 0) const;
  Node any_of(const Json& schema, const char* keyword);
  Node one_of_values(const Json& schema);
  Node by_type(const Json& schema);
  Node of_type(const Json& schema, std::uint32_t type);
  /// Types that values of the schema may have, at most.
  std::uint32_t most_types(const Json& schema, int depth) const;
  bool are_disjoint(const Json& first, const Json& second) const;

  // By type (schema_types.cc).
  Node string_value(const Json& schema);
  Node integer_value(const Json& schema);
  Node number_value(const Json& schema);
  Node array_value(const Json& schema);
  Node object_value(const Json& schema);
  struct Member {
    Node node = -1;
    bool required = false;
  };
  std::vector<Member> members_of(const Json& schema, std::vector<std::string>& names);
  Node members_node(const std::vector<Member>& members, Node more);
  Node bracketed(const char* open, Node content, bool may_be_empty, const char* close);
  Node array_rest(const Json& schema, std::int64_t index, std::int64_t least, std::int64_t most);
  const Json& item_schema(const Json& schema, std::int64_t index, std::int64_t least) const;

  std::int64_t count(const Json& schema, const char* keyword, std::int64_t otherwise) const;

  const Json& root_;
  grammar::Builder& builder_;
  JsonText text_;
  std::map<std::string, grammar::Rule> rules_;  // by $ref
  int depth_ = 0;
};

}  // namespace sluice::launcher
