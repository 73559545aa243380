// An output in gzip or zstd, as a killed run may have left it: torn.
#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <memory>
#include <streambuf>
#include <string>
#include <string_view>

#include "launcher/jobs/coding.h"

namespace sluice::launcher {

/// The plain bytes of such a file, those of a torn block included.
class CodedOutput : public std::streambuf {
 public:
  /// A place behind a whole line at which the file may be cut.
  struct Cut {
    std::uint64_t coded = 0;  // bytes of the file
    std::uint64_t plain = 0;
    std::string closing;  // bytes that make the file whole when it is cut there
  };

  /// Throws IoError.
  CodedOutput(std::string name, Coding coding);

  /// The last one among the bytes read so far.
  const Cut& cut() const { return cut_; }

 protected:
  /// Throws InputError where the bytes are damaged. Where they are torn they only end.
  int_type underflow() override;

 private:
  std::string name_;
  Coding coding_;
  std::ifstream file_;
  std::unique_ptr<Unpacker> unpacker_;
  std::array<char, 1U << 16> stored_;
  std::string_view waiting_;  // in stored_
  std::array<char, 1U << 16> plain_;
  Cut cut_;
  bool ends_line_ = true;          // the plain bytes so far
  std::uint64_t coded_bytes_ = 0;  // decoded
  std::uint64_t plain_bytes_ = 0;
};

}  // namespace sluice::launcher
