// Matrices of any dtype in the memory of the emulated GPU, and the values they stand for. Link
// cuda_emulated and reference_ops.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/device/tensor_view.h"
#include "kernels/group_quantize.h"
#include "tests/support/cuda_emulation/block.h"
#include "tests/support/reference_ops.h"

namespace sluice::emulated_test {

using reference::Matrix;

/// Rows of `dtype`, `offset` bytes behind an address that is a multiple of 256, and 32 bytes on
/// both sides that must stay as they are.
class OnDevice {
 public:
  static constexpr std::size_t kGuard = 256;

  OnDevice(const Matrix& values, DType dtype, std::size_t offset = 0)
      : rows_(values.rows()),
        columns_(values.columns()),
        dtype_(dtype),
        before_(kGuard + offset),
        bytes_(before_ + size() + kGuard, std::byte{0xA5}),
        values_(values) {
    if (is_quantized(dtype)) {
      const Matrix exact = as(values, DType::f32);
      std::vector<float> read(static_cast<std::size_t>(rows_ * columns_));
      kernels::quantize_rows(DType::f32, exact.bytes().data(), rows_, columns_, dtype,
                             bytes_.data() + before_);
      kernels::dequantize_rows(dtype, bytes_.data() + before_, rows_, columns_, read.data());
      values_ = Matrix(rows_, columns_);
      std::memcpy(values_.view().data, read.data(), read.size() * sizeof(float));
    } else {
      values_ = as(values, dtype);
      if (size() > 0) std::memcpy(bytes_.data() + before_, values_.bytes().data(), size());
    }
    EXPECT_EQ(cudaMalloc(&data_, bytes_.size()), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, bytes_.data(), bytes_.size(), cudaMemcpyDefault), cudaSuccess);
    // It may return before the bytes are there, and streams of their own do not wait for them.
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  static OnDevice random(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed,
                         std::size_t offset = 0) {
    return OnDevice(Matrix::random(rows, columns, DType::f32, seed), dtype, offset);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(OnDevice&& other) = delete;

  TensorView view() const {
    return {static_cast<std::byte*>(data_) + before_, dtype_, rows_, columns_};
  }
  SplitMatrix split(std::int64_t resident) const {
    return {view().slice(0, resident), view().slice(resident, rows_ - resident)};
  }
  /// What the bytes stood for when they were put there.
  const Matrix& values() const { return values_; }

  /// What they stand for now. Fails where bytes around them were touched.
  Matrix now() const {
    std::vector<std::byte> bytes(bytes_.size());
    EXPECT_EQ(cudaMemcpy(bytes.data(), data_, bytes.size(), cudaMemcpyDefault), cudaSuccess);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (i >= before_ && i < before_ + size()) continue;
      EXPECT_EQ(bytes[i], std::byte{0xA5}) << "byte " << i << " around a matrix was written";
    }
    Matrix matrix(rows_, columns_, dtype_);
    if (size() > 0) std::memcpy(matrix.view().data, bytes.data() + before_, size());
    return matrix;
  }

 private:
  static Matrix as(const Matrix& values, DType dtype) {
    Matrix result(values.rows(), values.columns(), dtype);
    for (std::int64_t r = 0; r < values.rows(); ++r) {
      for (std::int64_t c = 0; c < values.columns(); ++c) result.set(r, c, values.at(r, c));
    }
    return result;
  }
  std::size_t size() const {
    return static_cast<std::size_t>(rows_) * row_bytes_of(dtype_, columns_);
  }

  std::int64_t rows_;
  std::int64_t columns_;
  DType dtype_;
  std::size_t before_;
  std::vector<std::byte> bytes_;
  Matrix values_;
  void* data_ = nullptr;
};

/// Numbers in device memory.
class Numbers {
 public:
  explicit Numbers(const std::vector<std::int32_t>& numbers) {
    const std::size_t bytes = numbers.size() * sizeof(std::int32_t);
    EXPECT_EQ(cudaMalloc(&data_, bytes), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, numbers.data(), bytes, cudaMemcpyDefault), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  ~Numbers() { cudaFree(data_); }
  Numbers(Numbers&&) = delete;
  const std::int32_t* data() const { return static_cast<const std::int32_t*>(data_); }

 private:
  void* data_ = nullptr;
};

/// A stream; and threads of its kernels run in descending order, too: every test of it twice.
class EmulatedStream {
 public:
  explicit EmulatedStream(bool descending = false) {
    using Kind = support::RunOrder::Kind;
    support::run_order.kind = descending ? Kind::descending : Kind::ascending;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~EmulatedStream() {
    cudaStreamDestroy(stream_);
    support::run_order = {};
  }
  EmulatedStream(EmulatedStream&&) = delete;
  cudaStream_t get() const { return stream_; }
  void finish() const { ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Half the distance of neighbours near 1 (of f32: some of them, sums are of some order).
inline double unit_of(DType dtype) {
  return dtype == DType::f32 ? 1e-6 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
}

/// Within `units` of the dtype's unit, and of the value, if that is larger than 1.
inline void expect_near(const Matrix& got, const Matrix& wanted, double tolerance) {
  ASSERT_EQ(got.rows(), wanted.rows());
  ASSERT_EQ(got.columns(), wanted.columns());
  for (std::int64_t r = 0; r < wanted.rows(); ++r) {
    for (std::int64_t c = 0; c < wanted.columns(); ++c) {
      const double value = wanted.at(r, c);
      ASSERT_NEAR(got.at(r, c), value, tolerance * std::fmax(1.0, std::fabs(value)))
          << "row " << r << ", column " << c;
    }
  }
}

}  // namespace sluice::emulated_test
