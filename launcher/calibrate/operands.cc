#include "launcher/calibrate/operands.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <random>

#include "kernels/group_quantize.h"
#include "kernels/half.h"
#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

std::vector<std::byte> plausible_rows(DType dtype, std::int64_t rows, std::int64_t columns) {
  std::minstd_rand random(1);
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (float& value : values) {
    const auto step = static_cast<int>(random() % 1000) + 1;
    value = 0.001F * static_cast<float>(random() % 2 == 0 ? step : -step);
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows) * row_bytes_of(dtype, columns));
  if (is_quantized(dtype)) {
    kernels::quantize_rows(DType::f32, values.data(), rows, columns, dtype, bytes.data());
  } else if (dtype == DType::f32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  } else {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint16_t half =
          dtype == DType::f16 ? kernels::to_f16(values[i]) : kernels::to_bf16(values[i]);
      std::memcpy(bytes.data() + i * sizeof half, &half, sizeof half);
    }
  }
  return bytes;
}

Memory LaneMemory::take(std::size_t bytes) const {
  const std::size_t some = std::max<std::size_t>(bytes, 1);
  return lane_ == Lane::host_compute ? backend_.allocate_host(some, false)
                                     : backend_.allocate_device(some);
}

void LaneMemory::put(void* target, const void* source, std::size_t bytes) const {
  if (lane_ == Lane::host_compute) {
    std::memcpy(target, source, bytes);
    return;
  }
  backend_.copy(Lane::host_to_device, target, source, bytes);
  backend_.synchronize(backend_.record(Lane::host_to_device));
}

void LaneMemory::fill(const Memory& memory, const std::vector<std::byte>& piece) const {
  // Few large copies: the piece is repeated first.
  constexpr std::size_t kLeast = std::size_t{1} << 20;
  std::vector<std::byte> block;
  while (block.size() < std::min(kLeast, memory.bytes())) {
    block.insert(block.end(), piece.begin(), piece.end());
  }
  for (std::size_t at = 0; at < memory.bytes(); at += block.size()) {
    put(memory.data() + at, block.data(), std::min(block.size(), memory.bytes() - at));
  }
}

WeightWalk::WeightWalk(LaneMemory memory, DType dtype, std::int64_t width, std::size_t bytes)
    : dtype_(dtype),
      width_(width),
      each_(row_bytes_of(dtype, width) * static_cast<std::size_t>(width)),
      count_(std::max<std::size_t>(2, bytes / each_)),
      bytes_(memory.take(count_ * each_)) {
  memory.fill(bytes_, plausible_rows(dtype, 4, width));
}

SplitMatrix WeightWalk::next() {
  SplitMatrix matrix;
  matrix.resident = {bytes_.data() + index_ * each_, dtype_, width_, width_};
  index_ = (index_ + 1) % count_;
  return matrix;
}

ProductRun::ProductRun(kernels::Engine& engine, WeightWalk& walk, std::int64_t rows)
    : engine_(engine), walk_(walk), memory_(*engine.backend, Lane::compute), rows_(rows) {
  // A GPU computes in the type of the model's weights, unless they are quantised.
  const BackendInfo& info = engine.backend->info();
  const bool as_weights = info.kind != "cpu" && !is_quantized(walk.dtype());
  const DType dtype = as_weights ? walk.dtype() : info.compute_dtype;
  in_view_ = out_view_ = {nullptr, dtype, rows, walk.width()};
  in_ = memory_.take(in_view_.bytes());
  out_ = memory_.take(out_view_.bytes());
  in_view_.data = in_.data();
  out_view_.data = out_.data();
  memory_.fill(in_, plausible_rows(dtype, 1, walk.width()));
}

void ProductRun::put(std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    engine_.device_ops->linear(out_view_, in_view_, walk_.next(), {}, kernels::Activation::none,
                               {});
  }
}

double ProductRun::run(std::int64_t count) {
  const auto begin = SteadyClock::now();
  put(count);
  memory_.finish();
  return seconds_since(begin);
}

double ProductRun::usual(std::int64_t count) {
  run(count);
  double seconds[] = {run(count), run(count), run(count)};
  std::sort(std::begin(seconds), std::end(seconds));
  return seconds[1];
}

double ProductRun::flop() const {
  const auto width = static_cast<double>(walk_.width());
  return 2.0 * static_cast<double>(rows_) * width * width;
}

}  // namespace sluice::launcher
