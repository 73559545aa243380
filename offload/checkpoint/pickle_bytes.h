// The bytes of a pickle, taken one by one with every length checked, and its opcodes' names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::offload {

/// The opcodes of protocol 2 that torch.save writes; CPython's names and values.
enum class Opcode : unsigned char {
  mark = '(',
  stop = '.',
  binfloat = 'G',
  binint = 'J',
  binint1 = 'K',
  binint2 = 'M',
  none = 'N',
  binpersid = 'Q',
  reduce = 'R',
  binunicode = 'X',
  append = 'a',
  build = 'b',
  global = 'c',
  empty_dict = '}',
  appends = 'e',
  binget = 'h',
  long_binget = 'j',
  empty_list = ']',
  binput = 'q',
  long_binput = 'r',
  setitem = 's',
  tuple = 't',
  empty_tuple = ')',
  setitems = 'u',
  proto = 0x80,
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  newtrue = 0x88,
  newfalse = 0x89,
  long1 = 0x8a,
};

class PickleBytes {
 public:
  /// Both must outlive it.
  PickleBytes(std::string_view pickle, const std::string& where) : pickle_(pickle), where_(where) {}

  std::size_t size() const { return pickle_.size(); }

  /// The next opcode; fail() names its place until the one after it.
  Opcode next_opcode();
  unsigned char next_byte();
  std::uint64_t next_unsigned(int bytes);      // little-endian
  std::int64_t next_long();                    // LONG1: a length, then two's complement
  std::string next_text(std::size_t longest);  // BINUNICODE: a length, then UTF-8
  std::string next_line(std::size_t longest);  // GLOBAL: up to a newline, which is not returned
  void skip(std::size_t count) { take(count); }

  /// Throws InputError "<where>: the pickle <what> (at its byte N); ...".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string_view take(std::size_t count);

  std::string_view pickle_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::size_t opcode_at_ = 0;
};

}  // namespace sluice::offload
