#include "comm/control_message.h"

#include <algorithm>
#include <cstring>

namespace sluice::comm {
namespace {

struct Header {
  std::uint32_t kind;
  std::int32_t status;
  Step step;
};

}  // namespace

std::size_t encode(const ControlMessage& message, ControlBytes& target) {
  const Header header{static_cast<std::uint32_t>(message.kind),
                      static_cast<std::int32_t>(message.status), message.step};
  std::memcpy(target.data(), &header, sizeof header);
  const std::size_t text_bytes = std::min(message.sentence.size(), target.size() - sizeof header);
  std::memcpy(target.data() + sizeof header, message.sentence.data(), text_bytes);
  return sizeof header + text_bytes;
}

std::optional<ControlMessage> decode(std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  const auto kind = static_cast<ControlKind>(header.kind);
  if (kind != ControlKind::heartbeat && kind != ControlKind::failure && kind != ControlKind::stop) {
    return std::nullopt;
  }
  // A job that ends for a failure, or is stopped, never ends well.
  const bool fails = header.status > 0 && header.status < 256;
  if (kind != ControlKind::heartbeat && !fails) return std::nullopt;
  const auto text = bytes.subspan(sizeof header);
  return ControlMessage{kind, static_cast<ExitStatus>(header.status), header.step,
                        std::string(reinterpret_cast<const char*>(text.data()), text.size())};
}

}  // namespace sluice::comm
