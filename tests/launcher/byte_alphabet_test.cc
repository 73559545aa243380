#include "launcher/tokenizer/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>

namespace sluice::launcher {
namespace {

TEST(ByteAlphabet, IsOneToOne) {
  std::set<std::string> symbols;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string symbol = byte_symbol(static_cast<unsigned char>(byte));
    symbols.insert(symbol);
    EXPECT_EQ(bytes_of_symbols(symbol), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(symbols.size(), 256U);
}

TEST(ByteAlphabet, IsThatOfGpt2) {
  EXPECT_EQ(byte_symbol(' '), "Ġ");
  EXPECT_EQ(byte_symbol('\n'), "Ċ");
  EXPECT_EQ(byte_symbol('A'), "A");
  EXPECT_EQ(byte_symbol(0x00), "Ā");
  EXPECT_EQ(byte_symbol(0xAD), "Ń");
  EXPECT_EQ(byte_symbol(0xFF), "ÿ");
  EXPECT_EQ(bytes_of_symbols("âĢĵ"), "\xE2\x80\x93");
}

TEST(ByteAlphabet, OtherCharactersStandForNoByte) {
  EXPECT_FALSE(bytes_of_symbols("a b").has_value());
  EXPECT_FALSE(bytes_of_symbols("中").has_value());
  EXPECT_FALSE(bytes_of_symbols("\u0144").has_value());
}

}  // namespace
}  // namespace sluice::launcher
