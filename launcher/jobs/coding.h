// Files of rows and of answers may be gzip or zstd: the bytes of either, as they come and go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sluice::launcher {

enum class Coding : std::uint8_t { none, gzip, zstd };

const char* name_of(Coding coding);

/// By its ending, .gz or .zst.
Coding coding_of_name(std::string_view name);
/// The name without that ending.
std::string_view name_without_coding(std::string_view name);

/// By the bytes that a file begins with. Nothing: they may become either, wait for more.
std::optional<Coding> coding_of_bytes(std::string_view first);

/// Bytes that are not what they should be. Says what is wrong with them, in a few words.
struct CodingError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Coded bytes to plain ones. Members of gzip, or frames of zstd, may follow each other.
class Unpacker {
 public:
  struct Step {
    std::size_t read = 0;
    std::size_t written = 0;
  };
  virtual ~Unpacker() = default;

  /// Reads and writes as much as it can, up to the end of a block. It does nothing where all of
  /// `coded` is read and all that came of it is written. Throws CodingError.
  virtual Step step(std::string_view coded, std::span<char> plain) = 0;
  /// The coded bytes may end here.
  virtual bool is_whole() const = 0;
  /// Here, at the end of a block, closing() would make the coded bytes whole.
  virtual bool can_close() const = 0;
  /// Few bytes; none where it is whole. Source: RFC 1951 and 1952, RFC 8878.
  virtual std::string closing() const = 0;
};

/// Plain bytes to coded ones, a member or frame at a time.
class Packer {
 public:
  virtual ~Packer() = default;

  /// Appends to `coded`; begins a member where none is open. `flush`: all that was added can be
  /// read from what is in `coded` by then, and a block ends.
  virtual void add(std::string_view plain, bool flush, std::string& coded) = 0;
  /// Ends the member.
  virtual void finish(std::string& coded) = 0;
};

/// Not of Coding::none.
std::unique_ptr<Unpacker> make_unpacker(Coding coding);
std::unique_ptr<Packer> make_packer(Coding coding);

// Of make_unpacker() and make_packer().
std::unique_ptr<Unpacker> make_gzip_unpacker();
std::unique_ptr<Packer> make_gzip_packer();
std::unique_ptr<Unpacker> make_zstd_unpacker();
std::unique_ptr<Packer> make_zstd_packer();

}  // namespace sluice::launcher
