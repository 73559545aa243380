// `--weights dummy`: one block of values, made once; every tensor is that block, repeated, from a
// place that its name says. So any range of any tensor is a few copies, at the speed of memory.
#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "kernels/group_quantize.h"
#include "offload/weights/weight_source.h"

namespace sluice::offload {

namespace {

// A prime: no power of two of columns divides it, so that rows of a matrix differ.
constexpr std::uint64_t kBlockElements = 1'048'573;
constexpr std::uint64_t kWriteBytes = 4U << 20U;

std::uint64_t mixed(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ x >> 30U) * 0xbf58476d1ce4e5b9U;
  x = (x ^ x >> 27U) * 0x94d049bb133111ebU;
  return x ^ x >> 31U;
}

std::uint64_t hash_of(const std::string& name) {  // FNV-1a, then mixed
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return mixed(hash);
}

// k / 4096 with |k| <= 255: the sum of four bytes, centred, near normal with a deviation of 0.018.
// Eight significant bits and exponents near 0: exact in f32, f16 and bf16 alike.
float element(std::uint64_t index) {
  const std::uint64_t bits = mixed(index);
  int sum = -510;
  for (unsigned shift = 0; shift < 32; shift += 8) sum += static_cast<int>(bits >> shift & 0xffU);
  return static_cast<float>(sum / 2) / 4096.0F;
}

// The bits of `value`, which is 0 or a normal number exact in every dtype, as `dtype`.
std::uint32_t bits_as(DType dtype, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (dtype == DType::f32) return bits;
  if (dtype == DType::bf16) return bits >> 16U;
  if ((bits & 0x7fffffffU) == 0) return 0;
  const std::uint32_t exponent = (bits >> 23U & 0xffU) - 127 + 15;
  return bits >> 31U << 15U | exponent << 10U | (bits >> 13U & 0x3ffU);
}

template <typename Values>
std::vector<std::byte> block(DType dtype, Values values) {
  const std::size_t size = size_of(dtype);
  std::vector<std::byte> bytes(kBlockElements * size);
  for (std::uint64_t i = 0; i < kBlockElements; ++i) {
    const std::uint32_t bits = bits_as(dtype, values(i));
    std::memcpy(bytes.data() + i * size, &bits, size);  // little-endian, as checkpoints are
  }
  return bytes;
}

// A matrix of as many rows of the block as it has, at least one, quantised.
std::vector<std::byte> packed_block(const std::vector<std::byte>& values, DType dtype, DType to,
                                    std::int64_t columns) {
  const std::uint64_t row_bytes = row_bytes_of(dtype, columns);
  const std::uint64_t rows = std::max<std::uint64_t>(1, values.size() / row_bytes);
  std::vector<std::byte> bytes(rows * row_bytes_of(to, columns));
  std::vector<std::byte> row(row_bytes);
  for (std::uint64_t i = 0; i < rows; ++i) {
    for (std::uint64_t done = 0; done < row_bytes;) {
      const std::uint64_t at = (i * row_bytes + done) % values.size();
      const std::uint64_t count = std::min(row_bytes - done, values.size() - at);
      std::memcpy(row.data() + done, values.data() + at, count);
      done += count;
    }
    kernels::quantize_rows(dtype, row.data(), 1, columns, to,
                           bytes.data() + i * row_bytes_of(to, columns));
  }
  return bytes;
}

class DummySource final : public WeightSource {
 public:
  DummySource(DType dtype, DiskEngine& disk, std::filesystem::path folder, Compression compression)
      : dtype_(dtype),
        disk_(disk),
        folder_(std::move(folder)),
        compression_(compression),
        values_(block(dtype, element)),
        ones_(block(dtype, [](std::uint64_t) { return 1.0F; })) {}

  WeightInfo find(const WeightSpec& spec) override {
    const auto& [name, rows, columns, use] = spec;
    const auto [entry, added] = keys_.emplace(name, static_cast<std::int32_t>(tensors_.size()));
    if (added) {
      Tensor& tensor = tensors_.emplace_back();
      const DType dtype = spec.kept_as(compression_, dtype_);
      tensor.info = {dtype, rows, columns, entry->second, true};
      if (is_quantized(dtype)) {
        const std::vector<std::byte>& block = packed_rows(dtype, columns);
        const std::uint64_t row_bytes = row_bytes_of(dtype, columns);
        tensor.block = &block;
        tensor.start = hash_of(name) % (block.size() / row_bytes) * row_bytes;
      } else {
        tensor.block = use == WeightUse::scale ? &ones_ : &values_;
        tensor.start = hash_of(name) % kBlockElements * size_of(dtype_);
      }
    }
    const WeightInfo& info = tensors_[static_cast<std::size_t>(entry->second)].info;
    if (info.rows != rows || info.columns != columns) {
      throw InputError(
          fmt::format("dummy weights: \"{}\" was asked for as [{}, {}] and now as "
                      "[{}, {}]; the model's config.json contradicts itself",
                      name, info.rows, info.columns, rows, columns));
    }
    return info;
  }

  void read(const WeightInfo& info, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override {
    const Tensor& tensor = tensor_of(info, offset, bytes);
    auto* out = static_cast<std::byte*>(target);
    while (bytes > 0) {
      const Kept* kept = tensor.kept_at(offset);
      std::size_t count = 0;
      if (kept != nullptr) {
        const std::uint64_t skip = offset - kept->offset;
        count = std::min<std::uint64_t>(bytes, kept->bytes - skip);
        disk_.read(file_, kept->file_offset + skip, count, out, group);
      } else {
        count = std::min<std::uint64_t>(bytes, tensor.next_kept(offset) - offset);
        tensor.copy(offset, count, out);
      }
      offset += count;
      out += count;
      bytes -= count;
    }
  }

  WeightExtent extent(const WeightInfo& info, std::uint64_t offset, std::size_t bytes) override {
    const Kept* kept = tensor_of(info, offset, bytes).kept_at(offset);
    if (kept == nullptr || offset - kept->offset + bytes > kept->bytes) return {};
    return {&disk_, file_, kept->file_offset + (offset - kept->offset)};
  }

  void reserve_disk(std::uint64_t bytes) override {
    assert(file_ < 0);
    if (bytes == 0) return;
    file_ = disk_.create(folder_ / "dummy-weights.bin", bytes);
    file_bytes_ = bytes;
  }

  void keep_on_disk(const WeightInfo& info, std::uint64_t offset, std::size_t bytes) override {
    Tensor& tensor = tensor_of(info, offset, bytes);
    if (bytes == 0) return;
    const std::uint64_t in_file = round_to_blocks(bytes);
    assert(file_ >= 0 && in_file <= file_bytes_ - file_used_);
    // Two buffers: one is filled while the other is written.
    struct Buffer {
      std::vector<std::byte> data;
      IoGroup write;
    };
    std::array<Buffer, 2> buffers;
    for (std::uint64_t done = 0; done < in_file; done += kWriteBytes) {
      Buffer& buffer = buffers[done / kWriteBytes % 2];
      buffer.write.wait();
      buffer.data.assign(std::min(kWriteBytes, in_file - done), std::byte{0});
      const std::uint64_t count = std::min<std::uint64_t>(buffer.data.size(), bytes - done);
      tensor.copy(offset + done, count, buffer.data.data());
      disk_.write(file_, file_used_ + done, buffer.data.size(), buffer.data.data(), buffer.write);
    }
    for (Buffer& buffer : buffers) buffer.write.wait();
    tensor.kept.push_back({offset, bytes, file_used_});
    file_used_ += in_file;
  }

 private:
  struct Kept {
    std::uint64_t offset;  // in the tensor
    std::uint64_t bytes;
    std::uint64_t file_offset;
  };
  struct Tensor {
    WeightInfo info;
    const std::vector<std::byte>* block = nullptr;
    std::uint64_t start = 0;  // bytes into the block
    std::vector<Kept> kept;   // a few

    void copy(std::uint64_t offset, std::uint64_t bytes, std::byte* target) const {
      while (bytes > 0) {
        const std::uint64_t at = (start + offset) % block->size();
        const std::uint64_t count = std::min(bytes, block->size() - at);
        std::memcpy(target, block->data() + at, count);
        offset += count;
        target += count;
        bytes -= count;
      }
    }
    const Kept* kept_at(std::uint64_t offset) const {
      const auto at = std::ranges::find_if(kept, [&](const Kept& range) {
        return offset >= range.offset && offset - range.offset < range.bytes;
      });
      return at == kept.end() ? nullptr : &*at;
    }
    std::uint64_t next_kept(std::uint64_t offset) const {
      std::uint64_t next = UINT64_MAX;
      for (const Kept& range : kept) {
        if (range.offset > offset) next = std::min(next, range.offset);
      }
      return next;
    }
  };

  Tensor& tensor_of(const WeightInfo& info, [[maybe_unused]] std::uint64_t offset,
                    [[maybe_unused]] std::size_t bytes) {
    Tensor& tensor = tensors_[static_cast<std::size_t>(info.key)];
    [[maybe_unused]] const std::uint64_t whole =
        static_cast<std::uint64_t>(info.rows) * row_bytes_of(info.dtype, info.columns);
    assert(offset <= whole && bytes <= whole - offset);
    return tensor;
  }

  const std::vector<std::byte>& packed_rows(DType dtype, std::int64_t columns) {
    const auto [entry, added] = packed_.try_emplace(columns);
    if (added) entry->second = packed_block(values_, dtype_, dtype, columns);
    return entry->second;
  }

  DType dtype_;
  DiskEngine& disk_;
  std::filesystem::path folder_;
  Compression compression_;
  std::vector<std::byte> values_;
  std::vector<std::byte> ones_;
  std::map<std::int64_t, std::vector<std::byte>> packed_;  // quantised values_, by columns
  std::unordered_map<std::string, std::int32_t> keys_;
  std::vector<Tensor> tensors_;
  FileId file_ = -1;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t file_used_ = 0;
};

}  // namespace

std::unique_ptr<WeightSource> make_dummy_source(DType dtype, DiskEngine& disk,
                                                std::filesystem::path folder,
                                                Compression compression) {
  return std::make_unique<DummySource>(dtype, disk, std::move(folder), compression);
}

}  // namespace sluice::offload
