#include "stage/logits.h"

#include <algorithm>
#include <span>

#include "kernels/device/stall_reason.h"

namespace sluice::stage {

Logits::Logits(const StageLayout& layout, const Workspace& workspace, kernels::Engine& engine,
               comm::World& world, Trace& trace)
    : layout_(layout),
      workspace_(workspace),
      backend_(*engine.backend),
      ops_(*engine.device_ops),
      sampler_(layout, workspace, world, trace),
      histories_(workspace.histories,
                 layout.device_samples ? layout.batching.slots(layout.stages) : 0,
                 layout.batching.max_sequence_tokens, workspace.rules,
                 layout.batching.max_rule_words, layout.device_samples ? prefix_pages(layout) : 0),
      grammars_(workspace.tokens, layout.device_samples ? layout.grammar_slots() : 0),
      edits_(layout.device_samples ? layout.model.vocabulary : 0),
      outbox_(backend_, sampler_, kOutboxCapacity),
      first_(static_cast<std::size_t>(layout.batching.num_gpu_batches)),
      count_(first_.size()),
      features_(first_.size()) {}

void Logits::begin(const Pass& pass, const PassIndices& indices) {
  outbox_.wait(ended_[pass.number]);
  ResultSampler::Source& source = sampler_.source(pass.number);
  source.pass = &pass;
  source.rows.clear();
  std::fill(count_.begin(), count_.end(), 0);
  std::fill(features_.begin(), features_.end(), 0);
  std::size_t next = 0;
  for (std::size_t r = 0; r < pass.rows.size(); ++r) {
    const PassRow& row = pass.rows[r];
    const auto g = static_cast<std::size_t>(row.gpu_batch);
    if (count_[g] == 0) first_[g] = static_cast<std::int32_t>(source.rows.size());
    std::int32_t* const rows = indices.of(pass, row.gpu_batch).host_logit_rows;
    add_rows(pass, static_cast<std::int32_t>(r), pass.tokens.data() + next, rows, count_[g]);
    next += static_cast<std::size_t>(row.new_tokens);
    const bool ends_batch =
        r + 1 == pass.rows.size() || pass.rows[r + 1].gpu_batch != row.gpu_batch;
    if (ends_batch && layout_.batching.features > 0) add_features(pass, row.gpu_batch, rows);
  }
  outbox_.post({{}, ResultsBegin{pass.number}});
  if (!layout_.device_samples) return;
  histories_.take(pass);
  grammars_.take(pass);
}

void Logits::add_rows(const Pass& pass, std::int32_t row_index, const std::int32_t* tokens,
                      std::int32_t* rows, std::int32_t& count) {
  const PassRow& row = pass.rows[static_cast<std::size_t>(row_index)];
  std::vector<LogitRow>& wanted = sampler_.source(pass.number).rows;
  for (std::int32_t scored = row.first_scored(); scored < row.end_scored(); ++scored) {
    const std::int32_t following = scored - row.position;  // among the row's new tokens
    const std::int32_t token = following < row.new_tokens ? tokens[following] : row.next_token;
    rows[count++] = row.first_token + following - 1;
    wanted.push_back({row_index, scored, token});
  }
  if (!row.sample) return;
  for (std::int32_t ahead = row.drafted; ahead >= 0; --ahead) {
    const std::int32_t following = row.new_tokens - ahead;
    rows[count++] = row.first_token + following - 1;
    wanted.push_back({row_index, -1, ahead > 0 ? tokens[following] : -1, ahead});
  }
}

/// Rows wanted without logits come behind the others of their GPU batch.
void Logits::add_features(const Pass& pass, std::int32_t gpu_batch, std::int32_t* rows) {
  const auto g = static_cast<std::size_t>(gpu_batch);
  std::vector<LogitRow>& wanted = sampler_.source(pass.number).rows;
  if (count_[g] == 0) first_[g] = static_cast<std::int32_t>(wanted.size());
  for (std::size_t r = 0; r < pass.rows.size(); ++r) {
    const PassRow& row = pass.rows[r];
    if (row.gpu_batch != gpu_batch) continue;
    for (std::int32_t i = row.new_tokens - row.features(); i < row.new_tokens; ++i) {
      rows[count_[g]++] = row.first_token + i;
      ++features_[g];
      wanted.push_back({static_cast<std::int32_t>(r), row.position + i, -1, 0, true});
    }
  }
}

void Logits::run(const Pass& pass, std::int32_t gpu_batch, std::int32_t chunk,
                 const offload::WeightStream::Lease& weights, TensorView hidden,
                 const IndexBuffers& indices) {
  const auto g = static_cast<std::size_t>(gpu_batch);
  const auto most = static_cast<std::int32_t>(layout_.logit_rows());
  const std::int32_t offset = chunk * most;
  const std::int32_t rows = std::min(most, count_[g] - offset);
  const auto set = static_cast<std::size_t>(used_++ % taken_.size());
  outbox_.wait(taken_[set]);
  compute_waits(backend_, copied_, Activity::stall_results);
  const std::int32_t wanted = std::clamp(count_[g] - features_[g] - offset, 0, rows);
  if (layout_.device_samples) upload_samples(pass, set, first_[g] + offset, wanted);
  const HeadRows head = output_head(ops_, layout_.model, GroupWeights(weights), workspace_.head,
                                    hidden, indices.device_logit_rows + offset, rows, wanted);
  take_home(head, set);
  taken_[set] = outbox_.post({copied_, ResultsChunk{pass.number, set, first_[g] + offset, rows}});
}

void Logits::upload_samples(const Pass& pass, std::size_t set, std::int32_t first,
                            std::int32_t count) {
  const SampleBuffers& sampling = workspace_.sampling;
  const std::span<const LogitRow> wanted =
      std::span<const LogitRow>(sampler_.source(pass.number).rows)
          .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  const SampleRoom room = {
      {sampling.host_edits[set], static_cast<std::size_t>(layout_.logit_edits())},
      {sampling.host_masks[set], static_cast<std::size_t>(layout_.logit_mask_words())}};
  const SampleUse used =
      fill_sample_rows(pass, wanted, histories_, grammars_, edits_, sampling.host_rows[set], room);
  // On the lane that reads them, which is done with the last chunk's then.
  const auto upload = [&](auto* target, const auto* source, std::int32_t entries) {
    if (entries == 0) return;
    backend_.copy(Lane::compute, target, source,
                  static_cast<std::size_t>(entries) * sizeof *source);
  };
  upload(sampling.device_rows, sampling.host_rows[set], count);
  upload(sampling.device_edits, sampling.host_edits[set], used.edits);
  upload(sampling.device_masks, sampling.host_masks[set], used.mask_words);
}

void Logits::take_home(const HeadRows& head, std::size_t set) {
  const SampleBuffers& sampling = workspace_.sampling;
  const TensorView logits = head.logits;
  const bool samples = layout_.device_samples && logits.rows > 0;
  if (samples) {
    ops_.sample(sampling.device_results, logits, sampling.device_rows,
                {sampling.device_edits, sampling.device_masks});
  }
  backend_.wait(Lane::device_to_host, backend_.record(Lane::compute));
  if (samples) {
    backend_.copy(Lane::device_to_host, sampling.host_results[set], sampling.device_results,
                  static_cast<std::size_t>(logits.rows) * sizeof(kernels::SampledRow));
  } else if (logits.rows > 0) {
    backend_.copy(Lane::device_to_host, workspace_.host_logits[set].data, logits.data,
                  logits.bytes());
  }
  if (const std::int64_t features = head.features.rows - logits.rows; features > 0) {
    const TensorView rows = head.features.slice(logits.rows, features);
    backend_.copy(Lane::device_to_host, workspace_.host_features[set].data, rows.data,
                  rows.bytes());
  }
  copied_ = backend_.record(Lane::device_to_host);
}

void Logits::end(const Pass& pass) {
  ended_[pass.number] = outbox_.post({copied_, ResultsEnd{pass.number}});
}

void Logits::drain() {
  outbox_.wait_all();
  sampler_.drain();
}

}  // namespace sluice::stage
