// Makes archives as torch.save writes them, and broken ones that it never writes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/file_bytes.h"

namespace sluice::support {

struct ZipPart {
  std::string name;
  std::string bytes;
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
};

/// A zip file of stored members, each padded in its local header as torch does; with `zip64`, all
/// sizes and offsets stand in zip64 fields only.
inline std::string zip_of(const std::vector<ZipPart>& parts, bool zip64 = false) {
  std::string file;
  std::string directory;
  for (const ZipPart& part : parts) {
    const std::uint64_t header = file.size();
    const std::string padding = "FB" + little(3, 2) + "ZZZ";
    const std::string flags = little(part.flags, 2) + little(part.method, 2) + little(0, 8);
    const std::string names = little(part.name.size(), 2);
    file += "PK\x03\x04" + little(45, 2) + flags + little(part.bytes.size(), 4) +
            little(part.bytes.size(), 4) + names + little(padding.size(), 2) + part.name + padding +
            part.bytes;
    const std::string wide = little(1, 2) + little(24, 2) + little(part.bytes.size(), 8) +
                             little(part.bytes.size(), 8) + little(header, 8);
    const std::uint64_t bytes = zip64 ? 0xffffffff : part.bytes.size();
    directory += "PK\x01\x02" + little(45, 2) + little(45, 2) + flags + little(bytes, 4) +
                 little(bytes, 4) + names + little(zip64 ? wide.size() : 0, 2) + little(0, 10) +
                 little(zip64 ? 0xffffffff : header, 4) + part.name + (zip64 ? wide : "");
  }
  const std::uint64_t at = file.size();
  const std::uint64_t end = at + directory.size();
  file += directory;
  if (zip64) {
    file += "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) +
            little(parts.size(), 8) + little(parts.size(), 8) + little(directory.size(), 8) +
            little(at, 8);
    file += "PK\x06\x07" + little(0, 4) + little(end, 8) + little(1, 4);
  }
  file += "PK\x05\x06" + little(0, 4);
  file += zip64 ? little(~0ULL, 8) + little(~0ULL, 4)
                : little(parts.size(), 2) + little(parts.size(), 2) + little(directory.size(), 4) +
                      little(at, 4);
  return file + little(0, 2);
}

// Pickle opcodes, as strings to be put together.
inline std::string pickled_text(const std::string& text) {
  return "X" + little(text.size(), 4) + text;
}
inline std::string pickled_integer(std::int64_t value) {
  return "\x8a\x08" + little(static_cast<std::uint64_t>(value), 8);
}
inline std::string pickled_global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string pickled_tuple(const std::vector<std::int64_t>& values) {
  std::string text = "(";
  for (const std::int64_t value : values) text += pickled_integer(value);
  return text + "t";
}

/// A tensor as torch.save pickles it. What a test changes is a field.
struct TensorText {
  std::string type = "FloatStorage";
  std::string key = "0";
  std::int64_t elements = 6;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape = {2, 3};
  std::vector<std::int64_t> strides = {3, 1};
  std::string hooks = pickled_global("collections", "OrderedDict") + ")R";

  std::string pickled() const {
    const std::string storage = "(" + pickled_text("storage") + pickled_global("torch", type) +
                                pickled_text(key) + pickled_text("cpu") +
                                pickled_integer(elements) + "tQ";
    return pickled_global("torch._utils", "_rebuild_tensor_v2") + "(" + storage +
           pickled_integer(offset) + pickled_tuple(shape) + pickled_tuple(strides) + "\x89" +
           hooks + "tR";
  }
};

/// A whole pickle: {name: value}, values pickled already.
inline std::string pickled_dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string text = "\x80\x02}(";
  for (const auto& [name, value] : items) text += pickled_text(name) + value;
  return text + "u.";
}

}  // namespace sluice::support
