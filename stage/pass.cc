#include "stage/pass.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "grammar/program.h"
#include "kernels/device/error.h"
#include "offload/kv/kv_cache.h"

namespace sluice::stage {

namespace {

// All ranks run the same build on the same kind of machine (the handshake checks the build), so
// structs travel as they lie in memory.
struct PassPreamble {
  std::int64_t number;
  std::int32_t micro_batch;
  std::int32_t end;
  std::int32_t rows;
  std::int32_t tokens;
  std::int32_t batches;
  std::int32_t rules;
  std::int32_t grammars;
  std::int32_t grammar_bytes;
  std::int32_t freed;
  std::int32_t dropped;
  std::int32_t kept;
};

struct ResultsPreamble {
  std::int64_t number;
  std::int32_t micro_batch;
  std::int32_t entries;
  std::int32_t candidates;
  std::int32_t embedded;
  std::int32_t features;
  std::int32_t unused;
};

static_assert(std::is_trivially_copyable_v<PassRow>);
static_assert(std::is_trivially_copyable_v<PassGrammar>);
static_assert(std::is_trivially_copyable_v<PassResult>);
static_assert(std::is_trivially_copyable_v<Candidate>);

class Writer {
 public:
  explicit Writer(std::span<std::byte> buffer) : buffer_(buffer) {}

  template <typename T>
  void put(const T* values, std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes > buffer_.size() - used_) {
      throw CommError("a pass does not fit its message buffer; this is a bug in sluice");
    }
    if (bytes > 0) std::memcpy(buffer_.data() + used_, values, bytes);
    used_ += bytes;
  }
  std::span<const std::byte> done() const { return buffer_.first(used_); }

 private:
  std::span<std::byte> buffer_;
  std::size_t used_ = 0;
};

std::size_t counted(std::int32_t count) {
  if (count < 0) throw CommError("a message of the pipeline has a negative count");
  return static_cast<std::size_t>(count);
}

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  void get(T* values, std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes > bytes_.size()) {
      throw CommError("a message of the pipeline is shorter than its header says");
    }
    if (bytes > 0) std::memcpy(static_cast<void*>(values), bytes_.data(), bytes);
    bytes_ = bytes_.subspan(bytes);
  }
  /// `count` values, which are all here before memory is taken for them.
  template <typename T>
  void get(std::vector<T>& values, std::int32_t count) {
    const std::size_t wanted = counted(count);
    if (wanted > bytes_.size() / sizeof(T)) {
      throw CommError("a message of the pipeline is shorter than its header says");
    }
    values.resize(wanted);
    get(values.data(), wanted);
  }

 private:
  std::span<const std::byte> bytes_;
};

std::size_t micro_batch_rows(const Batching& batching) {
  return static_cast<std::size_t>(batching.num_gpu_batches) *
         static_cast<std::size_t>(batching.gpu_batch_size);
}

std::size_t micro_batch_tokens(const Batching& batching) {
  return static_cast<std::size_t>(batching.num_gpu_batches) *
         static_cast<std::size_t>(batching.max_tokens_per_gpu_batch);
}

/// Of a pass that says what numbers mean.
std::size_t grammar_bytes(const Batching& batching) {
  if (!batching.grammars) return 0;
  return micro_batch_rows(batching) * sizeof(PassGrammar) + grammar::kMostProgramBytes;
}

/// Of results with an embedding for each row.
std::size_t most_features(const Batching& batching) {
  return micro_batch_rows(batching) * static_cast<std::size_t>(batching.features);
}

/// Of a row's pages those become prefixes that its new tokens fill, and at most one before.
std::size_t most_kept(const Batching& batching) {
  if (!batching.share_prefixes) return 0;
  return 2 * micro_batch_rows(batching) +
         micro_batch_tokens(batching) / static_cast<std::size_t>(offload::KvShape{}.page_tokens);
}

/// A token of each row, and a score of each new token.
std::size_t most_entries(const Batching& batching) {
  return micro_batch_rows(batching) + micro_batch_tokens(batching);
}

}  // namespace

std::int64_t most_prefixes(const Batching& batching, std::int32_t stages) {
  if (!batching.share_prefixes) return 0;
  const std::int32_t page_tokens = offload::KvShape{}.page_tokens;
  return std::int64_t{batching.slots(stages)} *
         (std::max(batching.max_sequence_tokens - 1, 0) / page_tokens + 1);
}

void Pass::clear() {
  end = false;
  rows.clear();
  tokens.clear();
  batch_tokens.clear();
  rules.clear();
  grammars.clear();
  grammar_bytes.clear();
  freed.clear();
  dropped.clear();
  kept.clear();
}

void Pass::reserve(const Batching& batching, std::int32_t stages) {
  const auto slots = static_cast<std::size_t>(batching.slots(stages));
  rows.reserve(micro_batch_rows(batching));
  tokens.reserve(micro_batch_tokens(batching));
  batch_tokens.reserve(static_cast<std::size_t>(batching.num_gpu_batches));
  freed.reserve(slots);
  dropped.reserve(static_cast<std::size_t>(most_prefixes(batching, stages)));
  kept.reserve(most_kept(batching));
  rules.reserve(rows.capacity() * static_cast<std::size_t>(batching.max_rule_words));
  if (batching.grammars) {
    grammars.reserve(rows.capacity());
    grammar_bytes.reserve(grammar::kMostProgramBytes);
  }
}

std::size_t max_pass_bytes(const Batching& batching, std::int32_t stages) {
  return sizeof(PassPreamble) + micro_batch_rows(batching) * sizeof(PassRow) +
         micro_batch_tokens(batching) * sizeof(std::int32_t) +
         static_cast<std::size_t>(batching.num_gpu_batches) * sizeof(std::int32_t) +
         micro_batch_rows(batching) * static_cast<std::size_t>(batching.max_rule_words) *
             sizeof(std::int32_t) +
         grammar_bytes(batching) +
         (static_cast<std::size_t>(batching.slots(stages)) +
          static_cast<std::size_t>(most_prefixes(batching, stages)) + most_kept(batching)) *
             sizeof(std::int32_t);
}

std::span<const std::byte> encode(const Pass& pass, std::span<std::byte> buffer) {
  Writer writer(buffer);
  const PassPreamble preamble{pass.number,
                              pass.micro_batch,
                              pass.end ? 1 : 0,
                              static_cast<std::int32_t>(pass.rows.size()),
                              static_cast<std::int32_t>(pass.tokens.size()),
                              static_cast<std::int32_t>(pass.batch_tokens.size()),
                              static_cast<std::int32_t>(pass.rules.size()),
                              static_cast<std::int32_t>(pass.grammars.size()),
                              static_cast<std::int32_t>(pass.grammar_bytes.size()),
                              static_cast<std::int32_t>(pass.freed.size()),
                              static_cast<std::int32_t>(pass.dropped.size()),
                              static_cast<std::int32_t>(pass.kept.size())};
  writer.put(&preamble, 1);
  writer.put(pass.rows.data(), pass.rows.size());
  writer.put(pass.tokens.data(), pass.tokens.size());
  writer.put(pass.batch_tokens.data(), pass.batch_tokens.size());
  writer.put(pass.rules.data(), pass.rules.size());
  writer.put(pass.grammars.data(), pass.grammars.size());
  writer.put(pass.grammar_bytes.data(), pass.grammar_bytes.size());
  writer.put(pass.freed.data(), pass.freed.size());
  writer.put(pass.dropped.data(), pass.dropped.size());
  writer.put(pass.kept.data(), pass.kept.size());
  return writer.done();
}

void decode(std::span<const std::byte> bytes, Pass& pass) {
  Reader reader(bytes);
  PassPreamble preamble{};
  reader.get(&preamble, 1);
  pass.number = preamble.number;
  pass.micro_batch = preamble.micro_batch;
  pass.end = preamble.end != 0;
  reader.get(pass.rows, preamble.rows);
  reader.get(pass.tokens, preamble.tokens);
  reader.get(pass.batch_tokens, preamble.batches);
  reader.get(pass.rules, preamble.rules);
  reader.get(pass.grammars, preamble.grammars);
  reader.get(pass.grammar_bytes, preamble.grammar_bytes);
  reader.get(pass.freed, preamble.freed);
  reader.get(pass.dropped, preamble.dropped);
  reader.get(pass.kept, preamble.kept);
}

void PassResults::reserve(const Batching& batching) {
  entries.reserve(most_entries(batching));
  candidates.reserve(most_entries(batching) * kMaxLogprobs);
  embedded.reserve(batching.features > 0 ? micro_batch_rows(batching) : 0);
  features.reserve(most_features(batching));
}

void PassResults::clear() {
  entries.clear();
  candidates.clear();
  embedded.clear();
  features.clear();
}

void PassResults::add(std::int32_t slot, std::int32_t prompt_index, const TokenResult& result) {
  entries.push_back({slot, prompt_index, result.token, result.logprob,
                     static_cast<std::int32_t>(candidates.size()),
                     static_cast<std::int32_t>(result.top.size())});
  candidates.insert(candidates.end(), result.top.begin(), result.top.end());
}

TokenResult PassResults::result_of(const PassResult& entry) const {
  return {entry.token, entry.logprob,
          std::span(candidates)
              .subspan(static_cast<std::size_t>(entry.first_candidate),
                       static_cast<std::size_t>(entry.candidate_count))};
}

std::span<const float> PassResults::features_of(std::size_t index) const {
  const std::size_t width = features.size() / embedded.size();
  return std::span(features).subspan(index * width, width);
}

std::size_t max_results_bytes(const Batching& batching) {
  return sizeof(ResultsPreamble) +
         most_entries(batching) * (sizeof(PassResult) + kMaxLogprobs * sizeof(Candidate)) +
         (batching.features > 0 ? micro_batch_rows(batching) * sizeof(std::int32_t) : 0) +
         most_features(batching) * sizeof(float);
}

std::span<const std::byte> encode(const PassResults& results, std::span<std::byte> buffer) {
  Writer writer(buffer);
  const ResultsPreamble preamble{results.number,
                                 results.micro_batch,
                                 static_cast<std::int32_t>(results.entries.size()),
                                 static_cast<std::int32_t>(results.candidates.size()),
                                 static_cast<std::int32_t>(results.embedded.size()),
                                 static_cast<std::int32_t>(results.features.size()),
                                 0};
  writer.put(&preamble, 1);
  writer.put(results.entries.data(), results.entries.size());
  writer.put(results.candidates.data(), results.candidates.size());
  writer.put(results.embedded.data(), results.embedded.size());
  writer.put(results.features.data(), results.features.size());
  return writer.done();
}

void decode(std::span<const std::byte> bytes, PassResults& results) {
  Reader reader(bytes);
  ResultsPreamble preamble{};
  reader.get(&preamble, 1);
  results.number = preamble.number;
  results.micro_batch = preamble.micro_batch;
  reader.get(results.entries, preamble.entries);
  reader.get(results.candidates, preamble.candidates);
  reader.get(results.embedded, preamble.embedded);
  reader.get(results.features, preamble.features);
  const std::size_t embedded = std::max<std::size_t>(results.embedded.size(), 1);
  if (results.features.size() % embedded != 0 ||
      (results.embedded.empty() && !results.features.empty())) {
    throw CommError("a result of the pipeline has embeddings of different lengths");
  }
  for (const PassResult& entry : results.entries) {
    const std::size_t first = counted(entry.first_candidate);
    const std::size_t count = counted(entry.candidate_count);
    if (first > results.candidates.size() || count > results.candidates.size() - first) {
      throw CommError("a result of the pipeline names candidates that its message does not have");
    }
  }
}

}  // namespace sluice::stage
