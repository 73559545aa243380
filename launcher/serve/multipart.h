// Bodies of multipart/form-data, as browsers and HTTP libraries write them (RFC 7578, RFC 2046).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::launcher {

struct FormPart {
  std::string name;
  std::string filename;      // as the client calls it; empty: it is no file, or has no name
  std::string_view content;  // in the body
};

/// Whether a Content-Type is multipart/form-data, whatever its parameters.
bool is_form_type(std::string_view type);

/// The parts of `body`, at most 16, which must outlive them. Nothing may stand before the first
/// boundary, and only a line end behind the last. Throws ApiError for what has another form.
std::vector<FormPart> parse_form(std::string_view content_type, std::string_view body);

}  // namespace sluice::launcher
