// A template's source to its tree.
#pragma once

#include <string>
#include <string_view>

#include "launcher/chat/jinja/syntax_tree.h"

namespace sluice::launcher::jinja {

/// `where` names the template in errors. Throws TemplateError: syntax, or unsupported for tags
/// that are not here; limit where it is nested deeper than any template is.
Body parse_template(std::string_view source, const std::string& where);

}  // namespace sluice::launcher::jinja
