// Jinja templates as published chat templates use them, rendered as transformers renders them:
// Jinja's ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks, the extension
// loopcontrols, the tag `generation`, the filter tojson and the functions raise_exception and
// strftime_now of transformers' chat_template_utils.py.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/template_error.h"

namespace sluice::launcher {
class Json;
}

namespace sluice::launcher::jinja {

struct Statement;

/// Immutable: any thread may render it.
class Template {
 public:
  /// `name`: what errors call it, such as the path of its file. Broken UTF-8 counts as U+FFFD.
  /// Throws TemplateError: syntax, unsupported, limit.
  Template(std::string_view source, std::string name);

  /// `variables`: an object; its members are the template's names. `now`: what strftime_now()
  /// tells, in local time. Throws TemplateError: failed, raised, unsupported, limit.
  std::string render(const Json& variables, std::chrono::system_clock::time_point now,
                     const Limits& limits = {}) const;

 private:
  std::string name_;
  std::shared_ptr<const std::vector<Statement>> body_;
};

}  // namespace sluice::launcher::jinja
