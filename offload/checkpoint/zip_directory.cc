// Source: PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 (local header), 4.3.12 (central
// directory), 4.3.14 to 4.3.16 (end records) and 4.5.3 (zip64 extra field).
#include "offload/checkpoint/zip_directory.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/little_endian.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint64_t kMaxComment = 0xffff;
constexpr std::uint64_t kLocatorBytes = 20;
constexpr std::uint64_t kEnd64Bytes = 56;
constexpr std::uint64_t kEntryBytes = 46;
constexpr std::uint64_t kLocalBytes = 30;
constexpr std::uint64_t kMaxMembers = 100'000;
constexpr std::uint64_t kMaxDirectoryBytes = 32U << 20U;
constexpr std::uint64_t kSaturated16 = 0xffff;  // the true value stands in a zip64 record
constexpr std::uint64_t kSaturated32 = 0xffffffff;
constexpr std::uint64_t kEncryptedFlags = 1U | 1U << 6U | 1U << 13U;

constexpr std::string_view kEndSignature = "PK\x05\x06";
constexpr std::string_view kLocatorSignature = "PK\x06\x07";
constexpr std::string_view kEnd64Signature = "PK\x06\x06";
constexpr std::string_view kEntrySignature = "PK\x01\x02";
constexpr std::string_view kLocalSignature = "PK\x03\x04";

[[noreturn]] void fail(const InputFile& input, std::uint64_t offset, const std::string& what) {
  throw InputError(
      fmt::format("{}: {} (at offset {}); fetch the file again, or use the model's "
                  "safetensors files",
                  input.name(), what, offset));
}

struct Directory {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t members = 0;
};

// The zip64 end record, where its locator stands right before the end record at `end`.
void read_end64(const InputFile& input, std::uint64_t end, Directory& directory,
                std::uint64_t& limit) {
  const bool saturated = directory.offset == kSaturated32 || directory.bytes == kSaturated32 ||
                         directory.members == kSaturated16;
  std::string locator;
  if (end >= kLocatorBytes) locator = input.read(end - kLocatorBytes, kLocatorBytes);
  if (!locator.starts_with(kLocatorSignature)) {
    if (saturated) fail(input, end, "the zip file needs a zip64 record and has none");
    return;
  }
  const std::uint64_t offset = little_endian(locator, 8, 8);
  if (offset > end - kLocatorBytes || end - kLocatorBytes - offset < kEnd64Bytes) {
    fail(input, end - kLocatorBytes, "the zip64 locator points outside the file");
  }
  const std::string record = input.read(offset, kEnd64Bytes);
  if (!record.starts_with(kEnd64Signature)) fail(input, offset, "the zip64 record is damaged");
  if (little_endian(record, 16, 4) != 0 || little_endian(record, 20, 4) != 0 ||
      little_endian(record, 24, 8) != little_endian(record, 32, 8)) {
    fail(input, offset, "the zip file is one of several parts");
  }
  directory = {little_endian(record, 48, 8), little_endian(record, 40, 8),
               little_endian(record, 32, 8)};
  limit = offset;
}

Directory find_directory(const InputFile& input) {
  const std::uint64_t tail_bytes = std::min(input.bytes(), kEndBytes + kMaxComment);
  const std::uint64_t tail_offset = input.bytes() - tail_bytes;
  const std::string tail = input.read(tail_offset, tail_bytes);
  if (tail.size() < kEndBytes) fail(input, 0, "the file is too short for a zip file");
  // The record that ends exactly where the file ends, comment included.
  std::size_t at = tail.size() - kEndBytes;
  while (tail.compare(at, kEndSignature.size(), kEndSignature) != 0 ||
         at + kEndBytes + little_endian(tail, at + 20, 2) != tail.size()) {
    if (at-- == 0) fail(input, input.bytes(), "no zip directory at the end: the file is cut short");
  }
  const std::uint64_t end = tail_offset + at;
  if (little_endian(tail, at + 4, 2) != 0 || little_endian(tail, at + 6, 2) != 0 ||
      little_endian(tail, at + 8, 2) != little_endian(tail, at + 10, 2)) {
    fail(input, end, "the zip file is one of several parts");
  }
  Directory directory{little_endian(tail, at + 16, 4), little_endian(tail, at + 12, 4),
                      little_endian(tail, at + 10, 2)};
  std::uint64_t limit = end;
  read_end64(input, end, directory, limit);
  if (directory.offset > limit || directory.bytes > limit - directory.offset) {
    fail(input, end,
         fmt::format("the zip directory of {} bytes at {} does not lie before its end "
                     "record",
                     directory.bytes, directory.offset));
  }
  if (directory.members > kMaxMembers || directory.bytes > kMaxDirectoryBytes) {
    fail(input, end,
         fmt::format("the zip directory claims {} members in {} bytes, more than a model "
                     "has",
                     directory.members, directory.bytes));
  }
  return directory;
}

// Takes the values that the 32-bit fields could not hold from the zip64 extra field, in its order.
class Zip64Extra {
 public:
  Zip64Extra(const InputFile& input, std::uint64_t offset, std::string_view extra)
      : input_(input), offset_(offset) {
    while (extra.size() >= 4) {
      const std::size_t id = little_endian(extra, 0, 2);
      const std::size_t bytes = little_endian(extra, 2, 2);
      if (bytes > extra.size() - 4) fail(input, offset, "a zip entry's extra field is damaged");
      if (id == 1) field_ = extra.substr(4, bytes);
      extra.remove_prefix(4 + bytes);
    }
  }
  std::uint64_t widen(std::uint64_t value) {
    if (value != kSaturated32) return value;
    if (field_.size() < 8) fail(input_, offset_, "a zip entry lacks its zip64 size");
    const std::uint64_t wide = little_endian(field_, 0, 8);
    field_.remove_prefix(8);
    return wide;
  }

 private:
  const InputFile& input_;
  std::uint64_t offset_;
  std::string_view field_;
};

void check_name(const InputFile& input, std::uint64_t offset, std::string_view name) {
  const bool leaves = name.starts_with('/') || name == ".." || name.starts_with("../") ||
                      name.ends_with("/..") || name.find("/../") != std::string_view::npos;
  const bool odd = name.empty() || name.find('\\') != std::string_view::npos ||
                   name.find('\0') != std::string_view::npos;
  if (leaves || odd) {
    fail(input, offset,
         fmt::format("a member has the name \"{}\", which no model's has", printable(name)));
  }
}

// One central entry at `at` of the directory's text, which moves behind it.
ZipMember read_entry(const InputFile& input, const Directory& directory, std::string_view text,
                     std::size_t& at) {
  const std::uint64_t offset = directory.offset + at;
  const std::string_view entry = text.substr(at);
  if (entry.size() < kEntryBytes || !entry.starts_with(kEntrySignature)) {
    fail(input, offset, "a zip entry is damaged");
  }
  const std::size_t name_bytes = little_endian(entry, 28, 2);
  const std::size_t extra_bytes = little_endian(entry, 30, 2);
  const std::size_t whole = kEntryBytes + name_bytes + extra_bytes + little_endian(entry, 32, 2);
  if (whole > entry.size()) fail(input, offset, "a zip entry reaches beyond the directory");

  ZipMember member;
  member.name = entry.substr(kEntryBytes, name_bytes);
  check_name(input, offset, member.name);
  if ((little_endian(entry, 8, 2) & kEncryptedFlags) != 0) {
    fail(input, offset, fmt::format("member \"{}\" is encrypted", printable(member.name)));
  }
  Zip64Extra extra(input, offset, entry.substr(kEntryBytes + name_bytes, extra_bytes));
  member.bytes = extra.widen(little_endian(entry, 24, 4));
  const std::uint64_t stored_bytes = extra.widen(little_endian(entry, 20, 4));
  member.header = extra.widen(little_endian(entry, 42, 4));
  if (little_endian(entry, 10, 2) != 0 || stored_bytes != member.bytes) {
    fail(input, offset,
         fmt::format("member \"{}\" is compressed, which torch.save never does",
                     printable(member.name)));
  }
  at += whole;
  return member;
}

// The local header says where the bytes begin: its extra field (padding) is not the directory's.
void locate(const InputFile& input, const Directory& directory, ZipMember& member) {
  if (member.header > directory.offset || directory.offset - member.header < kLocalBytes) {
    fail(input, member.header,
         fmt::format("member \"{}\" begins outside the archive", printable(member.name)));
  }
  const std::string local = input.read(member.header, kLocalBytes);
  const std::uint64_t name_bytes = little_endian(local, 26, 2);
  member.offset = member.header + kLocalBytes + name_bytes + little_endian(local, 28, 2);
  if (!local.starts_with(kLocalSignature) || name_bytes != member.name.size() ||
      member.offset > directory.offset ||
      input.read(member.header + kLocalBytes, name_bytes) != member.name) {
    fail(input, member.header,
         fmt::format("member \"{}\" has another header than its entry says",
                     printable(member.name)));
  }
  if (member.bytes > directory.offset - member.offset) {
    fail(input, member.header,
         fmt::format("member \"{}\" of {} bytes reaches into the zip directory",
                     printable(member.name), member.bytes));
  }
}

void check_overlaps(const InputFile& input, std::vector<ZipMember>& members) {
  std::ranges::sort(members, {}, &ZipMember::header);
  for (std::size_t i = 1; i < members.size(); ++i) {
    const ZipMember& before = members[i - 1];
    if (before.offset + before.bytes > members[i].header) {
      fail(input, members[i].header,
           fmt::format("members \"{}\" and \"{}\" overlap", printable(before.name),
                       printable(members[i].name)));
    }
  }
}

}  // namespace

std::vector<ZipMember> read_zip_directory(const InputFile& input) {
  const Directory directory = find_directory(input);
  const std::string text = input.read(directory.offset, directory.bytes);
  std::vector<ZipMember> members;
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < directory.members; ++i) {
    members.push_back(read_entry(input, directory, text, at));
    locate(input, directory, members.back());
  }
  if (at != text.size()) fail(input, directory.offset + at, "bytes behind the last zip entry");
  check_overlaps(input, members);
  std::ranges::sort(members, {}, &ZipMember::name);
  const auto twice = std::ranges::adjacent_find(members, {}, &ZipMember::name);
  if (twice != members.end()) {
    fail(input, twice->header,
         fmt::format("two members have the name \"{}\"", printable(twice->name)));
  }
  return members;
}

}  // namespace sluice::offload
