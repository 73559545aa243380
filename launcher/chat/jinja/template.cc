#include "launcher/chat/jinja/template.h"

#include <utility>
#include <vector>

#include "launcher/chat/jinja/interpreter.h"
#include "launcher/chat/jinja/parser.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  constexpr std::size_t kMostBytes = std::size_t{4} << 20;
  if (source.size() > kMostBytes) {
    throw TemplateError(TemplateError::Kind::limit, name_, 1,
                        "it has more than 4 MiB, and no chat template is so long");
  }
  body_ = std::make_shared<const Body>(parse_template(replace_broken(source), name_));
}

std::string Template::render(const Json& variables, std::chrono::system_clock::time_point now,
                             const Limits& limits) const {
  Run run(limits, name_);
  std::vector<std::pair<std::string, Value>> names;
  for (const auto& [name, value] : variables.items()) names.emplace_back(name, run.value_of(value));
  return Interpreter(run, now).render(*body_, std::move(names));
}

}  // namespace sluice::launcher::jinja
