// The members of a zip file as torch.save writes it: stored, not compressed, each one extent.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "offload/checkpoint/input_file.h"

namespace sluice::offload {

struct ZipMember {
  std::string name;
  std::uint64_t header = 0;  // offset of its local header
  std::uint64_t offset = 0;  // of its bytes, in the file
  std::uint64_t bytes = 0;
};

/// All members, sorted by name. Understands zip64. Throws InputError for a damaged directory, and
/// for members that are compressed, encrypted, named twice or out of the archive ("../"), overlap
/// each other or reach beyond the directory, or are more than a model can have.
std::vector<ZipMember> read_zip_directory(const InputFile& input);

}  // namespace sluice::offload
