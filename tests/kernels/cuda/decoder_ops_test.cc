// The operations of today's decoders through CudaOps: each argument counts where a sequence of
// calls is replayed as a graph.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/device/error.h"
#include "tests/support/reference_ops.h"

namespace sluice::cuda {
namespace {

using reference::Matrix;

constexpr std::int32_t kHeads = 2;
constexpr std::int32_t kHeadDim = 32;
constexpr std::int64_t kWidth = std::int64_t{kHeads} * kHeadDim;
constexpr std::int64_t kWide = 96;
constexpr std::int32_t kTokens = 20;

/// What may differ between two sequences of calls.
struct Arguments {
  float epsilon = 1e-5F;
  float offset = 0.0F;
  float factor = 0.5F;
  float cap = 3.0F;
  kernels::Rotation rotation = {kHeadDim, 16, false, 1.0F, nullptr};
  kernels::AttentionRule rule = {0.3F};
};

/// A small decoder's operations over one sequence of kTokens new tokens, on an engine of its own.
class Decoder {
 public:
  explicit Decoder(std::unique_ptr<CudaBackend> backend) : backend_(std::move(backend)) {
    for (const auto& [matrix, memory] :
         {std::pair{&hidden_values_, &hidden_}, std::pair{&weight_values_, &weight_},
          std::pair{&vector_values_, &vector_}, std::pair{&frequency_values_, &frequencies_}}) {
      *memory = place(matrix->view().data, matrix->view().bytes());
    }
    std::vector<std::int32_t> numbers(kTokens);
    for (std::int32_t i = 0; i < kTokens; ++i) numbers[static_cast<std::size_t>(i)] = i;
    positions_ = place(numbers.data(), numbers.size() * sizeof(std::int32_t));
    const std::vector<std::int32_t> batch = {0, kTokens, kTokens, 1, 0};  // two pages
    batch_ = place(batch.data(), batch.size() * sizeof(std::int32_t));
    cache_.page_tokens = 16;
    cache_.kv_heads = kHeads;
    cache_.head_dim = kHeadDim;
    cache_.page_stride_bytes = static_cast<std::int64_t>(cache_.page_bytes());
    pages_ = backend_->allocate_device(2 * cache_.page_bytes());
    cache_.base = pages_.data();
    for (Memory* const memory : {&normed_, &product_, &attended_, &wide_}) {
      *memory = backend_->allocate_device(kTokens * kWide * sizeof(float));
    }
  }

  /// The bytes of all that it computes.
  std::vector<std::byte> run(Arguments with) {
    const auto rows = [](const Memory& memory, std::int64_t width) {
      return TensorView{memory.data(), DType::f32, kTokens, width};
    };
    const TensorView hidden = rows(hidden_, kWidth);
    const TensorView normed = rows(normed_, kWidth);
    const TensorView product = rows(product_, kWidth);
    const TensorView attended = rows(attended_, kWidth);
    const TensorView wide = rows(wide_, kWide);
    const TensorView vector{vector_.data(), DType::f32, 1, kWidth};
    with.rotation.frequencies = reinterpret_cast<const float*>(frequencies_.data());
    ops_.rms_norm(normed, hidden, vector, with.epsilon, with.offset);
    ops_.rotate(normed, with.rotation, integers(positions_));
    ops_.scale(normed, with.factor);
    ops_.soft_cap(normed, with.cap);
    ops_.linear_times(product, normed, {{weight_.data(), DType::f32, kWidth, kWidth}, {}}, vector,
                      hidden);
    ops_.add(product, normed);
    kernels::KvBatch batch;
    batch.sequences = 1;
    batch.max_pages = 2;
    batch.first_row = integers(batch_);
    batch.new_tokens = integers(batch_) + 1;
    batch.context = integers(batch_) + 2;
    batch.pages = integers(batch_) + 3;
    ops_.append_kv(cache_, batch, normed, product);
    ops_.attention(attended, product, cache_, batch, with.rule);
    ops_.widen_rows(wide, attended);
    std::vector<std::byte> bytes;
    for (const TensorView& view : {normed, product, attended, wide}) {
      std::vector<std::byte> some(view.bytes());
      backend_->copy(Lane::compute, some.data(), view.data, some.size());
      backend_->synchronize(backend_->record(Lane::compute));
      bytes.insert(bytes.end(), some.begin(), some.end());
    }
    return bytes;
  }

  CudaOps& ops() { return ops_; }
  CudaBackend& backend() { return *backend_; }

 private:
  static const std::int32_t* integers(const Memory& memory) {
    return reinterpret_cast<const std::int32_t*>(memory.data());
  }
  Memory place(const void* bytes, std::size_t count) {
    Memory memory = backend_->allocate_device(count);
    backend_->copy(Lane::compute, memory.data(), bytes, count);
    backend_->synchronize(backend_->record(Lane::compute));
    return memory;
  }

  std::unique_ptr<CudaBackend> backend_;
  CudaOps ops_{*backend_};
  Matrix hidden_values_ = Matrix::random(kTokens, kWidth, DType::f32, 1);
  Matrix weight_values_ = Matrix::random(kWidth, kWidth, DType::f32, 2);
  Matrix vector_values_ = Matrix::random(1, kWidth, DType::f32, 3);
  Matrix frequency_values_ = Matrix::random(1, kHeadDim, DType::f32, 4);
  Memory hidden_, weight_, vector_, frequencies_, positions_, batch_, pages_;
  Memory normed_, product_, attended_, wide_;
  kernels::KvPages cache_;
};

std::unique_ptr<CudaBackend> make_backend(bool graphs) {
  EXPECT_EQ(setenv("SLUICE_CUDA_GRAPHS", graphs ? "1" : "0", 1), 0);
  if (cudaSetDevice(0) != cudaSuccess) throw std::runtime_error("no emulated GPU");
  auto backend = std::make_unique<CudaBackend>(BackendInfo{}, 0, 1, nullptr);
  unsetenv("SLUICE_CUDA_GRAPHS");
  return backend;
}

const std::vector<std::function<void(Arguments&)>> kChanges = {
    [](Arguments&) {},
    [](Arguments& of) { of.epsilon = 0.25F; },
    [](Arguments& of) { of.offset = 1.0F; },
    [](Arguments& of) { of.factor = 0.75F; },
    [](Arguments& of) { of.cap = 1.5F; },
    [](Arguments& of) { of.rotation.head_dim = kHeadDim / 2; },
    [](Arguments& of) { of.rotation.width = kHeadDim; },
    [](Arguments& of) { of.rotation.neighbours = true; },
    [](Arguments& of) { of.rotation.factor = 1.5F; },
    [](Arguments& of) { of.rule.scale = 0.5F; },
    [](Arguments& of) { of.rule.soft_cap = 0.5F; },
    [](Arguments& of) { of.rule.alibi = 1.0F; },
    [](Arguments& of) { of.rule.window = 4; }};

TEST(CudaDecoderOps, EveryArgumentIsAnotherGraph) {
  Decoder launched(make_backend(false));
  Decoder replayed(make_backend(true));
  std::vector<std::vector<std::byte>> before;
  for (std::size_t i = 0; i < kChanges.size(); ++i) {
    SCOPED_TRACE(i);
    Arguments with;
    kChanges[i](with);
    const std::vector<std::byte> wanted = launched.run(with);
    for (const auto& other : before) EXPECT_NE(wanted, other);
    before.push_back(wanted);
    for (int round = 0; round < 3; ++round) EXPECT_EQ(replayed.run(with), wanted);
  }
  EXPECT_EQ(launched.backend().graph_counts().replayed, 0U);
  EXPECT_EQ(replayed.backend().graph_counts().captured, kChanges.size());
  EXPECT_EQ(replayed.backend().graph_counts().replayed, 2 * kChanges.size());
}

TEST(CudaDecoderOps, ANormOfManyHeadsIsWorthAGraph) {
  Decoder decoder(make_backend(true));
  constexpr std::int64_t kRows = CallGraphs::kMostRows + 1;
  const Memory memory = decoder.backend().allocate_device(kRows * kWidth * sizeof(float));
  const TensorView heads{memory.data(), DType::f32, kRows, kWidth};
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < CallGraphs::kFewestCalls; ++i) {
      decoder.ops().rms_norm(heads, heads, {}, 1e-5F, 0);
    }
    decoder.backend().synchronize(decoder.backend().record(Lane::compute));
  }
  EXPECT_EQ(decoder.backend().graph_counts().replayed, 2U);
}

TEST(CudaDecoderOps, RefuseViewsThatCannotBe) {
  Decoder decoder(make_backend(true));
  CudaOps& ops = decoder.ops();
  const Memory memory = decoder.backend().allocate_device(4096);
  const auto view = [&](DType dtype, std::int64_t rows, std::int64_t columns) {
    return TensorView{memory.data(), dtype, rows, columns};
  };
  const TensorView rows = view(DType::f32, 2, 64);
  const TensorView narrow = view(DType::f32, 2, 32);
  const SplitMatrix square{view(DType::f32, 64, 64), {}};
  const auto* const numbers = reinterpret_cast<const std::int32_t*>(memory.data());
  const auto* const floats = reinterpret_cast<const float*>(memory.data());
  EXPECT_THROW(ops.rms_norm(narrow, rows, {}, 0, 0), DeviceError);
  EXPECT_THROW(ops.rms_norm(rows, rows, view(DType::f32, 1, 32), 0, 0), DeviceError);
  EXPECT_THROW(ops.rotate(rows, {48, 48, false, 1, floats}, numbers), DeviceError);
  EXPECT_THROW(ops.rotate(rows, {32, 48, false, 1, floats}, numbers), DeviceError);
  EXPECT_THROW(ops.rotate(rows, {32, 15, false, 1, floats}, numbers), DeviceError);
  EXPECT_THROW(ops.rotate(rows, {32, 16, false, 1, nullptr}, numbers), DeviceError);
  EXPECT_THROW(ops.scale(view(DType::q8, 2, 64), 2), DeviceError);
  EXPECT_THROW(ops.soft_cap(rows, 0), DeviceError);
  EXPECT_THROW(ops.add(rows, narrow), DeviceError);
  EXPECT_THROW(ops.widen_rows(narrow, rows), DeviceError);
  EXPECT_THROW(ops.linear_times(rows, rows, square, {}, narrow), DeviceError);
  EXPECT_THROW(ops.linear_times(rows, rows, square, {}, {}), DeviceError);
}

}  // namespace
}  // namespace sluice::cuda
