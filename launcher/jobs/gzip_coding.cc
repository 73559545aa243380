// gzip, by zlib.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>
#include <new>
#include <utility>

#include "launcher/jobs/coding.h"

namespace sluice::launcher {
namespace {

constexpr int kGzipWindow = 15 + 16;  // zlib's way to ask for a gzip header
constexpr int kMemoryLevel = 8;       // zlib's default

// What inflate() says of the block in z_stream::data_type.
constexpr int kUnusedBits = 7;
constexpr int kLastBlock = 64;
constexpr int kBlockEnd = 128;

uInt size_for_zlib(std::size_t size) {
  return static_cast<uInt>(std::min<std::size_t>(size, std::numeric_limits<uInt>::max()));
}

Bytef* bytes_for_zlib(const char* bytes) {
  return reinterpret_cast<Bytef*>(const_cast<char*>(bytes));
}

class GzipUnpacker final : public Unpacker {
 public:
  GzipUnpacker() {
    if (inflateInit2(&stream_, kGzipWindow) != Z_OK) throw std::bad_alloc();
  }
  ~GzipUnpacker() override { inflateEnd(&stream_); }
  GzipUnpacker(const GzipUnpacker&) = delete;
  GzipUnpacker& operator=(const GzipUnpacker&) = delete;

  Step step(std::string_view coded, std::span<char> plain) override {
    if (coded.empty() && between_members_) return {};
    if (between_members_ && !is_first_ && coded.front() == '\0') {  // as tapes are padded
      return {std::min(coded.find_first_not_of('\0'), coded.size()), 0};
    }
    if (std::exchange(between_members_, false) && !std::exchange(is_first_, false)) {
      inflateReset(&stream_);
    }
    stream_.next_in = bytes_for_zlib(coded.data());
    stream_.avail_in = size_for_zlib(coded.size());
    stream_.next_out = bytes_for_zlib(plain.data());
    stream_.avail_out = size_for_zlib(plain.size());
    const uInt wanted = stream_.avail_in;
    const uInt room = stream_.avail_out;
    const int result = inflate(&stream_, Z_BLOCK);
    if (result == Z_STREAM_END) {
      between_members_ = true;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      throw CodingError(stream_.msg != nullptr ? stream_.msg : "it cannot be unpacked");
    }
    const Step step = {wanted - stream_.avail_in, room - stream_.avail_out};
    if (step.read + step.written > 0) {  // else zlib forgets that a block ended
      at_block_end_ = (stream_.data_type & kBlockEnd) != 0 &&
                      (stream_.data_type & (kLastBlock | kUnusedBits)) == 0;
    }
    return step;
  }

  bool is_whole() const override { return between_members_ && !is_first_; }

  bool can_close() const override { return is_whole() || (!between_members_ && at_block_end_); }

  std::string closing() const override {
    if (between_members_) return {};
    std::string bytes = {'\x03', '\0'};  // a last block without bytes
    for (const std::uint64_t word :
         {std::uint64_t{stream_.adler}, std::uint64_t{stream_.total_out}}) {
      for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(word >> shift));
    }
    return bytes;
  }

 private:
  z_stream stream_ = {};
  bool between_members_ = true;
  bool is_first_ = true;
  bool at_block_end_ = false;  // and at the end of a byte
};

class GzipPacker final : public Packer {
 public:
  GzipPacker() {
    if (deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindow, kMemoryLevel,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
      throw std::bad_alloc();
    }
  }
  ~GzipPacker() override { deflateEnd(&stream_); }
  GzipPacker(const GzipPacker&) = delete;
  GzipPacker& operator=(const GzipPacker&) = delete;

  void add(std::string_view plain, bool flush, std::string& coded) override {
    do {
      const uInt size = size_for_zlib(plain.size());
      stream_.next_in = bytes_for_zlib(plain.data());
      stream_.avail_in = size;
      plain.remove_prefix(size);
      run(flush && plain.empty() ? Z_SYNC_FLUSH : Z_NO_FLUSH, coded);
    } while (!plain.empty());
  }

  void finish(std::string& coded) override {
    run(Z_FINISH, coded);
    deflateReset(&stream_);
  }

 private:
  /// Until zlib has nothing more to write.
  void run(int flush, std::string& coded) {
    std::array<char, 1U << 14> room;
    do {
      stream_.next_out = bytes_for_zlib(room.data());
      stream_.avail_out = static_cast<uInt>(room.size());
      deflate(&stream_, flush);  // fails only where there is no progress to make
      coded.append(room.data(), room.size() - stream_.avail_out);
    } while (stream_.avail_out == 0);
  }

  z_stream stream_ = {};
};

}  // namespace

std::unique_ptr<Unpacker> make_gzip_unpacker() { return std::make_unique<GzipUnpacker>(); }
std::unique_ptr<Packer> make_gzip_packer() { return std::make_unique<GzipPacker>(); }

}  // namespace sluice::launcher
