// Unicode's normal forms and lower case. The only door to utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::launcher {

enum class NormalForm : std::uint8_t { nfc, nfd, nfkc, nfkd };

/// Immutable: any thread may use it.
class UnicodeNormalizer {
 public:
  explicit UnicodeNormalizer(NormalForm form);

  /// Only the parts of `text` that are not in the form are rewritten, so a plain text costs one
  /// look at each character. Pre: valid UTF-8.
  void apply(std::string& text) const;

 private:
  class Table;

  static const Table& table_of(NormalForm form);

  NormalForm form_;
  const Table& table_;
};

/// Every character in lower case, wherever it stands (Rust's char::to_lowercase).
std::string lower_case(std::string_view text);

}  // namespace sluice::launcher
