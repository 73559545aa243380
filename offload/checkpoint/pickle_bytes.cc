#include "offload/checkpoint/pickle_bytes.h"

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/little_endian.h"

namespace sluice::offload {

void PickleBytes::fail(const std::string& what) const {
  throw InputError(
      fmt::format("{}: the pickle {} (at its byte {}); use the model's safetensors "
                  "files, or fetch it again",
                  where_, what, opcode_at_));
}

std::string_view PickleBytes::take(std::size_t count) {
  if (count > pickle_.size() - at_) fail("ends too early");
  at_ += count;
  return pickle_.substr(at_ - count, count);
}

Opcode PickleBytes::next_opcode() {
  opcode_at_ = at_;
  return static_cast<Opcode>(next_byte());
}

unsigned char PickleBytes::next_byte() { return static_cast<unsigned char>(take(1).front()); }

std::uint64_t PickleBytes::next_unsigned(int bytes) {
  return little_endian(take(static_cast<std::size_t>(bytes)), 0, bytes);
}

std::int64_t PickleBytes::next_long() {
  const int bytes = next_byte();
  if (bytes == 0) return 0;
  if (bytes > 8) fail("has an integer beyond 64 bits");
  const int unused = 64 - 8 * bytes;  // shifted up and down again to extend the sign
  return static_cast<std::int64_t>(next_unsigned(bytes) << unused) >> unused;
}

std::string PickleBytes::next_text(std::size_t longest) {
  const std::uint64_t length = next_unsigned(4);
  if (length > longest) fail("has a string longer than any name");
  return std::string(take(length));
}

std::string PickleBytes::next_line(std::size_t longest) {
  const std::size_t end = pickle_.substr(at_, longest).find('\n');
  if (end == std::string_view::npos) fail("has a name without an end");
  std::string line(take(end));
  take(1);
  return line;
}

}  // namespace sluice::offload
