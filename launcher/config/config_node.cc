#include "launcher/config/config_node.h"

#include <fmt/format.h>

#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

std::string shown(const ConfigNode& node) {
  using Kind = ConfigNode::Kind;
  constexpr std::size_t kMost = 60;
  switch (node.kind) {
    case Kind::nothing:
      return "nothing";
    case Kind::sequence:
      return "a list";
    case Kind::map:
      return "a map";
    case Kind::scalar:
      break;
  }
  const std::string text =
      offload::printable(node.text.substr(0, kMost)) + (node.text.size() > kMost ? "..." : "");
  return node.quoted ? fmt::format("text, \"{}\"", text) : fmt::format("'{}'", text);
}

}  // namespace sluice::launcher
