// Parts of HTTP messages as text.
#pragma once

#include <string>
#include <string_view>

namespace sluice::launcher {

/// "Not Found" of 404.
const char* reason_of(int status);

/// A target without its query, percent signs undone; those that are none stay.
std::string path_of(std::string_view target);

/// What a target's query says of a name: `?limit=7&after=x`; empty: nothing. Percent signs and
/// plus signs are undone.
std::string query_of(std::string_view target, std::string_view name);

/// `text` as a chunk of chunked coding.
std::string chunk_of(std::string_view text);

/// Whether a Content-Type is JSON's, whatever its parameters.
bool is_json_type(std::string_view type);

/// In Base64, with its padding.
std::string encode_base64(std::string_view bytes);

/// The key in an Authorization header: Bearer's, or Basic's password; empty: there is none.
std::string key_of(std::string_view authorization);

/// Takes as long for equal texts as for others of their length.
bool equal_in_constant_time(std::string_view given, std::string_view expected);

}  // namespace sluice::launcher
