#include "launcher/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// Printable bytes stand for themselves; the others are U+0100 and following, in order.
constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> symbols = {};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    symbols[static_cast<std::size_t>(byte)] =
        is_printable(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return symbols;
}

constexpr std::array<char32_t, 256> kSymbols = make_alphabet();
constexpr std::size_t kSymbolEnd = 0x100 + 68;  // 68 bytes are not printable

constexpr std::array<std::int16_t, kSymbolEnd> make_bytes() {
  std::array<std::int16_t, kSymbolEnd> bytes = {};
  for (auto& byte : bytes) byte = -1;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    bytes[kSymbols[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}

constexpr std::array<std::int16_t, kSymbolEnd> kBytes = make_bytes();

}  // namespace

std::string byte_symbol(unsigned char byte) {
  std::string symbol;
  append_character(symbol, kSymbols[byte]);
  return symbol;
}

std::optional<std::string> bytes_of_symbols(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    const char32_t symbol = first_character(token);
    if (symbol >= kSymbolEnd || kBytes[symbol] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kBytes[symbol]));
    token.remove_prefix(first_part(token).bytes);
  }
  return bytes;
}

}  // namespace sluice::launcher
