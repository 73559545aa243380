// zstd, by libzstd. The unpacker follows the blocks itself, because the library does not say where
// they end. Source of the format: RFC 8878, sections 3.1.1 and 3.1.2.
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "launcher/jobs/coding.h"

namespace sluice::launcher {
namespace {

constexpr std::uint64_t kMagic = 0xFD2FB528U;
constexpr std::uint64_t kSkippableMagic = 0x184D2A50U;  // and the 15 behind it
constexpr std::size_t kWordBytes = 4;
constexpr std::size_t kBlockHeaderBytes = 3;

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

/// Which part of the format the next bytes are, and how many they are.
class FrameWalk {
 public:
  /// Bytes up to the end of the part. Never 0.
  std::size_t left() const { return left_; }
  bool is_between_frames() const { return part_ == Part::magic && left_ == kWordBytes; }
  bool is_between_blocks() const {
    return part_ == Part::block_header && left_ == kBlockHeaderBytes;
  }
  bool has_checksum() const { return has_checksum_; }

  /// Pre: no more than left() bytes.
  void pass(std::string_view bytes) {
    left_ -= bytes.size();
    const bool is_body = part_ == Part::block || part_ == Part::skipped;
    if (!is_body) head_.append(bytes);
    while (left_ == 0) next(std::exchange(head_, {}));
  }

 private:
  enum class Part : std::uint8_t {
    magic,
    skipped_size,
    skipped,
    descriptor,
    header,
    block_header,
    block,
    checksum
  };

  void expect(Part part, std::size_t bytes) {
    part_ = part;
    left_ = bytes;
  }

  void next(const std::string& head) {
    const std::uint64_t value = little_endian(head);
    switch (part_) {
      case Part::magic:
        if (value == kMagic) return expect(Part::descriptor, 1);
        if ((value & ~std::uint64_t{0xF}) == kSkippableMagic) {
          return expect(Part::skipped_size, kWordBytes);
        }
        throw CodingError("bytes that are no zstd frame");
      case Part::skipped_size:
        return expect(Part::skipped, value);
      case Part::descriptor:
        return expect(Part::header, header_bytes(value));
      case Part::header:
        return expect(Part::block_header, kBlockHeaderBytes);
      case Part::block_header:
        is_last_ = (value & 1) != 0;
        return expect(Part::block, (value >> 1 & 3) == kRepeatedByte ? 1 : value >> 3);
      case Part::block:
        if (!is_last_) return expect(Part::block_header, kBlockHeaderBytes);
        if (has_checksum_) return expect(Part::checksum, kWordBytes);
        return expect(Part::magic, kWordBytes);
      case Part::skipped:
      case Part::checksum:
        return expect(Part::magic, kWordBytes);
    }
  }

  /// Of the frame header, behind the descriptor.
  std::size_t header_bytes(std::uint64_t descriptor) {
    constexpr std::size_t kDictionaryBytes[] = {0, 1, 2, 4};
    const bool single_segment = (descriptor >> 5 & 1) != 0;
    const std::size_t size_bytes[] = {single_segment ? 1U : 0U, 2, 4, 8};
    has_checksum_ = (descriptor >> 2 & 1) != 0;
    return (single_segment ? 0 : 1) + kDictionaryBytes[descriptor & 3] +
           size_bytes[descriptor >> 6];
  }

  static constexpr std::uint64_t kRepeatedByte = 1;  // a type of block

  Part part_ = Part::magic;
  std::size_t left_ = kWordBytes;
  std::string head_;
  bool has_checksum_ = false;
  bool is_last_ = false;
};

/// Of a call to zstd.
std::size_t checked(std::size_t result) {
  if (ZSTD_isError(result) != 0) throw CodingError(ZSTD_getErrorName(result));
  return result;
}

struct FreeStreams {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(XXH64_state_t* state) const { XXH64_freeState(state); }
};

template <class Handle>
std::unique_ptr<Handle, FreeStreams> owned(Handle* handle) {
  if (handle == nullptr) throw std::bad_alloc();
  return std::unique_ptr<Handle, FreeStreams>(handle);
}

class ZstdUnpacker final : public Unpacker {
 public:
  Step step(std::string_view coded, std::span<char> plain) override {
    if (has_more_) {
      const Step rest = run({}, plain);
      if (rest.written > 0) return rest;
    }
    if (walk_.is_between_frames()) XXH64_reset(checksum_.get(), 0);
    return run(coded.substr(0, walk_.left()), plain);
  }

  bool is_whole() const override { return walk_.is_between_frames() && !has_more_ && !is_first_; }

  bool can_close() const override {
    return is_whole() || (walk_.is_between_blocks() && !has_more_);
  }

  std::string closing() const override {
    if (walk_.is_between_frames()) return {};
    std::string bytes = {'\x01', '\0', '\0'};  // a last block without bytes
    if (walk_.has_checksum()) {
      const std::uint64_t sum = XXH64_digest(checksum_.get());
      for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(sum >> shift));
    }
    return bytes;
  }

 private:
  Step run(std::string_view coded, std::span<char> plain) {
    ZSTD_inBuffer in = {coded.data(), coded.size(), 0};
    ZSTD_outBuffer out = {plain.data(), plain.size(), 0};
    checked(ZSTD_decompressStream(context_.get(), &out, &in));
    has_more_ = out.pos == out.size;
    XXH64_update(checksum_.get(), plain.data(), out.pos);
    walk_.pass(coded.substr(0, in.pos));
    is_first_ = is_first_ && in.pos == 0;
    return {in.pos, out.pos};
  }

  std::unique_ptr<ZSTD_DCtx, FreeStreams> context_ = owned(ZSTD_createDCtx());
  std::unique_ptr<XXH64_state_t, FreeStreams> checksum_ = owned(XXH64_createState());
  FrameWalk walk_;
  bool has_more_ = false;  // of what was read, that had no room
  bool is_first_ = true;
};

class ZstdPacker final : public Packer {
 public:
  ZstdPacker() { checked(ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1)); }

  void add(std::string_view plain, bool flush, std::string& coded) override {
    run(plain, flush ? ZSTD_e_flush : ZSTD_e_continue, coded);
  }
  void finish(std::string& coded) override { run({}, ZSTD_e_end, coded); }

 private:
  void run(std::string_view plain, ZSTD_EndDirective directive, std::string& coded) {
    std::array<char, 1U << 14> room;
    ZSTD_inBuffer in = {plain.data(), plain.size(), 0};
    for (bool done = false; !done;) {
      ZSTD_outBuffer out = {room.data(), room.size(), 0};
      const std::size_t left = checked(ZSTD_compressStream2(context_.get(), &out, &in, directive));
      coded.append(room.data(), out.pos);
      done = directive == ZSTD_e_continue ? in.pos == in.size : left == 0;
    }
  }

  std::unique_ptr<ZSTD_CCtx, FreeStreams> context_ = owned(ZSTD_createCCtx());
};

}  // namespace

std::unique_ptr<Unpacker> make_zstd_unpacker() { return std::make_unique<ZstdUnpacker>(); }
std::unique_ptr<Packer> make_zstd_packer() { return std::make_unique<ZstdPacker>(); }

}  // namespace sluice::launcher
