// Ragged workloads for the KV cache, the way the stage loop drives it, and what must come out of
// them: every query, key and value is a number of its own, made of (sequence, layer, position,
// column).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels/ops.h"
#include "offload/kv/kv_cache.h"
#include "offload/kv/kv_layout.h"
#include "tests/support/kept_keys.h"
#include "tests/support/scratch_folder.h"

namespace sluice::support {

struct KvRow {
  std::uint64_t sequence = 0;  // never used twice, while a slot is
  std::int32_t position = 0;
};

struct KvBatchWork {
  std::vector<offload::KvSequence> sequences;
  std::vector<KvRow> rows;
};

inline offload::Policy kv_policy(const offload::Shares& shares, bool cpu_cache_compute) {
  offload::Policy policy;
  policy.cache = shares;
  policy.cpu_cache_compute = cpu_cache_compute;
  return policy;
}

using KvPass = std::vector<KvBatchWork>;  // by GPU batch

struct KvWorkload {
  offload::KvShape shape;
  std::vector<KvPass> passes;
  std::vector<std::vector<std::int32_t>> forgotten;  // slots, before each pass; may be shorter
  std::int32_t kept_millionths = 0;  // of sparse attention, beyond the dense tokens of a sequence
  std::map<std::uint64_t, std::int32_t> dense = {};  // by KvRow::sequence
  std::int64_t query_width() const { return std::int64_t{shape.query_heads} * shape.head_dim; }
  std::int64_t kv_width() const { return std::int64_t{shape.kv_heads} * shape.head_dim; }
  kernels::AttentionRule rule(std::int32_t layer, float scale) const {
    kernels::AttentionRule rule;
    rule.scale = scale;
    if (!shape.windows.empty()) rule.window = shape.windows[static_cast<std::size_t>(layer)];
    return rule;
  }
};

enum class KvOperand : std::uint64_t { query, keys, values };

inline float kv_value(KvOperand operand, KvRow row, std::int32_t layer, std::int64_t column) {
  std::uint64_t x = (row.sequence << 40) ^ (static_cast<std::uint64_t>(row.position) << 24) ^
                    (static_cast<std::uint64_t>(layer) << 16) ^
                    (static_cast<std::uint64_t>(operand) << 14) ^
                    static_cast<std::uint64_t>(column);
  for (int i = 0; i < 2; ++i) {  // splitmix64
    x += 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    x ^= x >> 31;
  }
  return static_cast<float>(static_cast<double>(x >> 40) / 8388608.0 - 1.0) * 2.0F;
}

/// Passes of `micro_batches` micro-batches in turn. Each slot prefills (in chunks, when its prompt
/// is longer than what is left of the GPU batch), decodes, ends by chance and is taken by a new
/// sequence; some are left out of a pass, and the order of sequences is not that of their rows.
/// Where the shape's pools are bounded (all alike), no more sequences are under way than one pool
/// holds, wherever they live, and every end is told; else only some are.
inline KvWorkload make_kv_workload(const offload::KvShape& shape, std::int32_t micro_batches,
                                   std::int32_t passes, unsigned seed) {
  struct Slot {
    std::uint64_t sequence = 0;
    std::int32_t length = 0;
    std::int32_t prompt = 0;
    std::int32_t total = 0;
  };
  std::mt19937 random(seed);
  const auto below = [&random](std::int32_t n) {
    return static_cast<std::int32_t>(random() % static_cast<unsigned>(n));
  };
  KvWorkload work{shape, {}, {}};
  std::vector<Slot> slots(static_cast<std::size_t>(shape.slots));
  std::uint64_t next_sequence = 1;
  std::int32_t pages = 0;  // of sequences under way
  const std::int32_t most = offload::KvLayout(shape, {}).farthest().pages_per_slot;
  const auto pages_of = [&shape, most](const Slot& slot) {
    return slot.sequence == 0 ? 0 : std::min((slot.total - 1) / shape.page_tokens + 1, most);
  };
  const std::int32_t pool = shape.pool_pages[0];
  for (std::int32_t p = 0; p < passes; ++p) {
    KvPass pass(static_cast<std::size_t>(shape.gpu_batches));
    std::vector<std::int32_t>& forgotten = work.forgotten.emplace_back();
    for (std::int32_t b = 0; b < shape.gpu_batches; ++b) {
      KvBatchWork& batch = pass[static_cast<std::size_t>(b)];
      const std::int32_t first =
          ((p % micro_batches) * shape.gpu_batches + b) * shape.gpu_batch_size;
      std::int32_t left = shape.tokens_per_gpu_batch;
      for (std::int32_t i = 0; i < shape.gpu_batch_size && left > 0; ++i) {
        Slot& slot = slots[static_cast<std::size_t>(first + i)];
        if (below(8) == 0) continue;
        if (slot.sequence != 0 && (slot.length == slot.total || below(10) == 0)) {
          pages -= pages_of(slot);
          slot = {};
          if (pool > 0 || below(2) == 0) forgotten.push_back(first + i);
        }
        if (slot.sequence == 0) {
          const std::int32_t prompt = 1 + below(shape.tokens_per_slot);
          const Slot next{next_sequence++, 0, prompt,
                          prompt + below(shape.tokens_per_slot - prompt + 1)};
          if (pool > 0 && pages + pages_of(next) > pool) continue;
          slot = next;
          pages += pages_of(slot);
        }
        const std::int32_t wanted = slot.length < slot.prompt ? slot.prompt - slot.length : 1;
        const std::int32_t count = std::min(wanted, std::min(left, 1 + below(left)));
        const auto row = static_cast<std::int32_t>(batch.rows.size());
        for (std::int32_t t = 0; t < count; ++t) {
          batch.rows.push_back({slot.sequence, slot.length + t});
        }
        slot.length += count;
        left -= count;
        // Some new tokens straddle the border.
        const std::int32_t dense = (slot.prompt + 1) / 2;
        work.dense[slot.sequence] = dense;
        batch.sequences.push_back({first + i, row, count, slot.length, slot.total, dense});
      }
      if (below(2) == 0) std::shuffle(batch.sequences.begin(), batch.sequences.end(), random);
    }
    work.passes.push_back(std::move(pass));
  }
  return work;
}

/// What attention is, in double precision, in the order of run_kv_workload()'s outputs.
inline std::vector<double> kv_reference(const KvWorkload& work, float scale) {
  const std::int32_t heads = work.shape.query_heads;
  const std::int32_t group = heads / work.shape.kv_heads;
  const std::int32_t head_dim = work.shape.head_dim;
  std::vector<double> result;
  const auto at = [&](KvOperand operand, KvRow row, std::int32_t layer, std::int32_t head,
                      std::int32_t d) -> double {
    const std::int32_t kept = operand == KvOperand::query ? head : head / group;
    return kv_value(operand, row, layer, kept * head_dim + d);
  };
  const auto attend = [&](KvRow row, std::int32_t layer, std::int32_t first_head) {
    const std::int32_t window = work.rule(layer, scale).window;
    const std::int32_t begin = window > 0 ? std::max(row.position + 1 - window, 0) : 0;
    std::vector<std::vector<double>> weights;
    for (std::int32_t head = first_head; head < first_head + group; ++head) {
      std::vector<double>& of_head = weights.emplace_back();
      double sum = 0;
      for (std::int32_t p = begin; p <= row.position; ++p) {
        double dot = 0;
        for (std::int32_t d = 0; d < head_dim; ++d) {
          dot += at(KvOperand::query, row, layer, head, d) *
                 at(KvOperand::keys, {row.sequence, p}, layer, head, d);
        }
        of_head.push_back(std::exp(dot * static_cast<double>(scale)));
        sum += of_head.back();
      }
      for (double& weight : of_head) weight /= sum;
    }
    const bool is_dense = work.kept_millionths == 0 || row.position < work.dense.at(row.sequence);
    const std::vector<bool> kept =
        reference::kept_keys(weights, is_dense ? 0 : work.kept_millionths);
    for (std::int32_t i = 0; i < group * head_dim; ++i) {
      const std::int32_t h = i / head_dim;
      double total = 0;
      for (std::int32_t p = begin; p <= row.position; ++p) {
        const auto key = static_cast<std::size_t>(p - begin);
        if (!kept[key]) continue;
        total += weights[static_cast<std::size_t>(h)][key] *
                 at(KvOperand::values, {row.sequence, p}, layer, first_head + h, i % head_dim);
      }
      result.push_back(total);
    }
  };
  for (const KvPass& pass : work.passes) {
    for (std::int32_t layer = 0; layer < work.shape.layers; ++layer) {
      for (const KvBatchWork& batch : pass) {
        for (const KvRow row : batch.rows) {
          for (std::int32_t h = 0; h < heads; h += group) attend(row, layer, h);
        }
      }
    }
  }
  return result;
}

enum class KvPrefetch { never, ahead, by_chance };

/// A cache with all it stands on, and buffers for one GPU batch's rows on the device: one set, so
/// that every step overwrites what the step before has left there as soon as store() allows it.
class KvRig {
 public:
  KvRig(kernels::Engine engine, const offload::KvShape& shape, const offload::Policy& policy,
        offload::DiskEngine* disk, Trace* trace = nullptr)
      : engine_(std::move(engine)), shape_(shape) {
    if (policy.cache.disk > 0) {
      run_folder_ = std::make_unique<offload::RunFolder>(folder_.path(), 0);
    }
    offload::KvCache::plan(shape, policy, plan);
    device = offload::Arena(allocate(offload::Tier::device), "device");
    host = offload::Arena(allocate(offload::Tier::host), "host");
    rows_ = engine_.backend->allocate_device(4 * buffer_bytes());
    cache_ = std::make_unique<offload::KvCache>(engine_, shape, policy, device, host, host, disk,
                                                run_folder_.get(), trace);
  }

  offload::KvCache& cache() { return *cache_; }
  Backend& backend() { return *engine_.backend; }
  /// 0: query, 1: keys, 2: values, 3: out.
  TensorView rows(int index, std::int64_t count) const {
    const bool kept = index == 1 || index == 2;
    const std::int64_t heads = kept ? shape_.kv_heads : shape_.query_heads;
    return {rows_.data() + static_cast<std::size_t>(index) * buffer_bytes(), shape_.compute_dtype,
            count, heads * shape_.head_dim};
  }

  offload::MemoryPlan plan;
  offload::Arena device;
  offload::Arena host;

 private:
  std::size_t buffer_bytes() const {
    return static_cast<std::size_t>(shape_.tokens_per_gpu_batch) *
           static_cast<std::size_t>(shape_.query_heads * shape_.head_dim) *
           size_of(shape_.compute_dtype);
  }
  Memory allocate(offload::Tier tier) {
    const std::uint64_t bytes = std::max<std::uint64_t>(plan.total(tier), 64);
    return tier == offload::Tier::device ? engine_.backend->allocate_device(bytes)
                                         : engine_.backend->allocate_host(bytes, true);
  }

  kernels::Engine engine_;
  offload::KvShape shape_;
  ScratchFolder folder_;
  std::unique_ptr<offload::RunFolder> run_folder_;
  Memory rows_;
  std::unique_ptr<offload::KvCache> cache_;
};

/// Queries, keys and values of all steps, and room for the outputs: [pass][layer][GPU batch][row],
/// of the shape's compute dtype. Positions in keys and values are those in queries and outputs
/// divided by the query heads of a KV head.
struct KvBuffers {
  explicit KvBuffers(const KvWorkload& work) : dtype(work.shape.compute_dtype) {
    for (const KvPass& pass : work.passes) {
      for (std::int32_t layer = 0; layer < work.shape.layers; ++layer) {
        for (const KvBatchWork& batch : pass) {
          for (int i = 0; i < 3; ++i) {
            const std::int64_t width = i == 0 ? work.query_width() : work.kv_width();
            for (const KvRow row : batch.rows) {
              for (std::int64_t c = 0; c < width; ++c) {
                add(in[i], kv_value(static_cast<KvOperand>(i), row, layer, c));
              }
            }
          }
        }
      }
    }
    out.resize(in[0].size());
    const std::int64_t most = work.shape.tokens_per_gpu_batch * work.query_width();
    for (std::int64_t i = 0; i < most; ++i) add(poison, NAN);
  }
  /// The outputs as floats.
  std::vector<float> results() const {
    std::vector<float> values(out.size() / size_of(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::byte* const from = out.data() + i * size_of(dtype);
      std::uint16_t half = 0;
      if (dtype == DType::f32) {
        std::memcpy(&values[i], from, sizeof(float));
      } else {
        std::memcpy(&half, from, sizeof(half));
        values[i] = dtype == DType::f16 ? kernels::from_f16(half) : kernels::from_bf16(half);
      }
    }
    return values;
  }

  DType dtype;
  std::vector<std::byte> in[3];
  std::vector<std::byte> out;
  std::vector<std::byte> poison;

 private:
  void add(std::vector<std::byte>& to, float value) const {
    const std::uint16_t half =
        dtype == DType::f16 ? kernels::to_f16(value) : kernels::to_bf16(value);
    const auto* const from = dtype == DType::f32 ? reinterpret_cast<const std::byte*>(&value)
                                                 : reinterpret_cast<const std::byte*>(&half);
    to.insert(to.end(), from, from + size_of(dtype));
  }
};

/// Runs passes [first, last) of the workload, whose queries and outputs start at byte `offset`;
/// advances it. Puts all on the lanes and returns without waits but for those of the cache.
inline void run_kv_passes(KvRig& rig, const KvWorkload& work, KvPrefetch mode, std::size_t first,
                          std::size_t last, KvBuffers& buffers, std::size_t& offset,
                          float scale = 0.5F) {
  Backend& backend = rig.backend();
  const std::int32_t gpu_batches = work.shape.gpu_batches;
  const auto steps = work.shape.layers * gpu_batches;
  const auto group = static_cast<std::size_t>(work.shape.query_heads / work.shape.kv_heads);
  std::mt19937 random(static_cast<unsigned>(first) + 17U);
  for (std::size_t p = first; p < last; ++p) {
    if (p < work.forgotten.size()) rig.cache().forget(work.forgotten[p]);
    for (std::int32_t b = 0; b < gpu_batches; ++b) {
      rig.cache().begin(b, work.passes[p][static_cast<std::size_t>(b)].sequences,
                        static_cast<std::int32_t>(p));
    }
    for (std::int32_t step = 0; step < steps; ++step) {
      const std::int32_t layer = step / gpu_batches;
      const std::int32_t b = step % gpu_batches;
      const KvBatchWork& batch = work.passes[p][static_cast<std::size_t>(b)];
      const unsigned when = mode == KvPrefetch::never   ? 0U
                            : mode == KvPrefetch::ahead ? 1U
                                                        : static_cast<unsigned>(random() % 4);
      const auto fetch_next = [&](unsigned now) {
        const std::int32_t next = step + 1;
        if (now == when && next < steps)
          rig.cache().prefetch(next / gpu_batches, next % gpu_batches);
      };
      const auto rows = static_cast<std::int64_t>(batch.rows.size());
      const TensorView out = rig.rows(3, rows);
      fetch_next(1);
      if (rows > 0) {
        for (int i = 0; i < 3; ++i) {
          const TensorView target = rig.rows(i, rows);
          const std::size_t from = i == 0 ? offset : offset / group;
          backend.copy(Lane::compute, target.data, buffers.in[i].data() + from, target.bytes());
        }
        backend.copy(Lane::compute, out.data, buffers.poison.data(), out.bytes());
      }
      rig.cache().attend(layer, b, out, rig.rows(0, rows), rig.rows(1, rows), rig.rows(2, rows),
                         work.rule(layer, scale));
      fetch_next(2);
      const Event left = rig.cache().store(layer, b, rig.rows(1, rows), rig.rows(2, rows));
      fetch_next(3);
      if (left.ticket != 0) backend.wait(Lane::compute, left);
      if (rows > 0) backend.copy(Lane::compute, buffers.out.data() + offset, out.data, out.bytes());
      offset += out.bytes();
    }
  }
}

inline std::vector<float> run_kv_workload(KvRig& rig, const KvWorkload& work, KvPrefetch mode,
                                          float scale = 0.5F) {
  KvBuffers buffers(work);
  std::size_t offset = 0;
  const auto drain = [&rig] {
    for (int lane = 0; lane < kLaneCount; ++lane) {
      rig.backend().synchronize(rig.backend().record(static_cast<Lane>(lane)));
    }
  };
  try {
    run_kv_passes(rig, work, mode, 0, work.passes.size(), buffers, offset, scale);
  } catch (...) {
    drain();  // copies from and to the buffers are still queued
    throw;
  }
  drain();
  return buffers.results();
}

}  // namespace sluice::support
