#include "launcher/jobs/coding.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kGzipMagic = "\x1F\x8B";
constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";
// A zstd file may begin with a frame to be skipped, 0x184D2A50 to 0x184D2A5F in little-endian.
constexpr std::string_view kSkippableRest = "\x2A\x4D\x18";

constexpr std::string_view kGzipEnding = ".gz";
constexpr std::string_view kZstdEnding = ".zst";

bool one_begins_the_other(std::string_view one, std::string_view other) {
  return one.starts_with(other) || other.starts_with(one);
}

bool may_be_skippable(std::string_view first) {
  return (static_cast<unsigned char>(first.front()) & 0xF0U) == 0x50U &&
         one_begins_the_other(first.substr(1), kSkippableRest);
}

}  // namespace

const char* name_of(Coding coding) {
  return coding == Coding::gzip ? "gzip" : coding == Coding::zstd ? "zstd" : "plain";
}

Coding coding_of_name(std::string_view name) {
  if (name.ends_with(kGzipEnding)) return Coding::gzip;
  return name.ends_with(kZstdEnding) ? Coding::zstd : Coding::none;
}

std::string_view name_without_coding(std::string_view name) {
  const Coding coding = coding_of_name(name);
  if (coding == Coding::gzip) name.remove_suffix(kGzipEnding.size());
  if (coding == Coding::zstd) name.remove_suffix(kZstdEnding.size());
  return name;
}

std::optional<Coding> coding_of_bytes(std::string_view first) {
  if (first.starts_with(kGzipMagic)) return Coding::gzip;
  if (first.starts_with(kZstdMagic)) return Coding::zstd;
  if (first.empty() || one_begins_the_other(first, kGzipMagic) ||
      one_begins_the_other(first, kZstdMagic)) {
    return {};
  }
  if (!may_be_skippable(first)) return Coding::none;
  return first.size() > kSkippableRest.size() ? std::optional(Coding::zstd) : std::nullopt;
}

std::unique_ptr<Unpacker> make_unpacker(Coding coding) {
  return coding == Coding::gzip ? make_gzip_unpacker() : make_zstd_unpacker();
}

std::unique_ptr<Packer> make_packer(Coding coding) {
  return coding == Coding::gzip ? make_gzip_packer() : make_zstd_packer();
}

}  // namespace sluice::launcher
