// The head: admits requests to sequence slots, makes the passes, and takes their results. Rank 0
// only, on a thread of its own. It alone decides: who starts, what is computed next, who is
// finished.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "comm/world.h"
#include "stage/draft_pace.h"
#include "stage/drafter.h"
#include "stage/grammar_ledger.h"
#include "stage/head_row.h"
#include "stage/page_ledger.h"
#include "stage/pass.h"
#include "stage/prefix_tree.h"
#include "stage/report.h"
#include "stage/request.h"
#include "stage/stage_config.h"

namespace sluice::stage {

/// The bookkeeping, without any messages: a deterministic machine that tests drive by hand.
class Admission {
 public:
  /// `stages` fixes the number of micro-batches (Batching::micro_batches_for). A request starts
  /// where `ledger` has the pages of its prompt and one more, and leaves one for each of the rows
  /// there; later it takes pages as it grows. Requests start in the job's order, but for prefixes;
  /// one that waits for pages is passed by none. The job is asked again whenever a place is free
  /// until it says Next::no_more.
  ///
  /// Full pages of every row become prefixes. A request that begins with the tokens of one starts
  /// behind it, and behind what it has in common with the next page of a prefix or of a row; where
  /// a row under way computes such pages it waits until passes with them were made, and others
  /// start before it. Prefixes that no row has stay, those that were used last, while no row needs
  /// their pages.
  ///
  /// A row that finds no page for its next token gets one of the youngest row of that pool, which
  /// steps back: its pages go, its tokens stay, and it starts again before any younger request. The
  /// oldest row always goes on, so every row ends.
  ///
  /// With Batching::draft_tokens `drafter` guesses ahead, which must outlive it; null: a
  /// LookUpDrafter.
  Admission(Job& job, const Batching& batching, std::int32_t stages, PageLedger ledger = {},
            Drafter* drafter = nullptr);

  /// Fills free slots of every micro-batch, spread evenly: the first requests go to different
  /// micro-batches. For when none is under way.
  void admit_all();
  /// Fills free slots of one micro-batch; a request that finds no pages there may go to another.
  void admit(std::int32_t micro_batch);
  /// As admit_all(), if a request waits for pages that a row under way computes. For when a pass
  /// was made.
  void admit_held();

  /// Makes the next pass of a micro-batch: of each GPU batch, a token for every decoding row, with
  /// guesses behind it, then chunks of prompts, up to max_tokens_per_gpu_batch. False: no row has
  /// work that can begin now.
  ///
  /// A chunk that samples nothing needs no answer, so passes may be made while others of the same
  /// micro-batch are under way: the pipeline's order is the order of the cache. But of those that
  /// sample there is one at a time (awaits_tokens()): rows that decode stay in one pass, which
  /// reads the weights once for all of them.
  bool make_pass(std::int32_t micro_batch, Pass& pass);
  /// New tokens that make_pass() would put into a pass now, without guesses.
  std::int32_t ready_tokens(std::int32_t micro_batch) const;
  /// A pass that samples is under way.
  bool awaits_tokens(std::int32_t micro_batch) const {
    return sampling_[static_cast<std::size_t>(micro_batch)];
  }

  /// Of a pass under way: its new tokens that are prompt, not answer.
  std::int32_t prefill_tokens(const Pass& pass) const;

  /// Takes the results of a pass, tells the job, frees slots. Passes come back in the order they
  /// were made. Throws CommError if the results do not fit the pass.
  void take(const Pass& pass, const PassResults& results);
  /// What the pass that was taken last took of the pipeline's time, and brought to answers. It says
  /// how many guesses pay.
  void took(const Pass& pass, std::uint64_t gained, double seconds);

  /// Drops a request as HeadLine::cancel() has it: at once where no pass is under way with it, else
  /// when the last of these is taken. An id that is not here is passed over.
  void cancel(std::uint64_t id);

  /// A request was taken from the job and finds no pages.
  bool has_waiting() const { return !waiting_.empty(); }
  /// The job has said that there will be no more, and all that it gave have ended.
  bool is_done() const { return no_more_ && waiting_.empty() && active_ == 0; }
  /// Decode steps of all rows, at most `most`, in which none can lack a page.
  std::int32_t steps_with_pages(std::int32_t most) const;

  /// Memory of a slot whose request has so many tokens, of prompt and answer, and rules of so many
  /// words.
  static std::uint64_t slot_bytes(std::int32_t tokens, std::int32_t rule_words) {
    return sizeof(HeadRow) +
           (static_cast<std::uint64_t>(tokens) + static_cast<std::uint64_t>(rule_words)) *
               sizeof(std::int32_t);
  }

  std::int32_t micro_batches() const { return micro_batches_; }
  std::int32_t active_rows() const { return active_; }
  std::uint64_t prompt_tokens() const { return prompt_tokens_; }
  std::uint64_t completion_tokens() const { return completion_tokens_; }
  /// Of the completion tokens, those that a decode step brought: not a prompt's last chunk.
  std::uint64_t decode_tokens() const { return decode_tokens_; }
  std::uint64_t requests() const { return requests_; }
  std::uint64_t failed() const { return failed_; }
  std::uint64_t cancelled() const { return cancelled_; }
  /// Times that a row gave its pages back before its end, and tokens that were computed again.
  std::uint64_t stepped_back() const { return stepped_back_; }
  std::uint64_t recomputed_tokens() const { return recomputed_tokens_; }
  /// Guesses that were made, and those of them that answers have.
  std::uint64_t drafted_tokens() const { return drafted_tokens_; }
  std::uint64_t accepted_tokens() const { return accepted_tokens_; }
  /// Of the prompts' tokens, those that were not computed, as other rows had begun with them.
  std::uint64_t shared_prefix_tokens() const { return shared_prefix_tokens_; }

 private:
  HeadRow& row(std::int32_t slot) { return rows_[static_cast<std::size_t>(slot)]; }
  const HeadRow& row(std::int32_t slot) const { return rows_[static_cast<std::size_t>(slot)]; }
  std::int32_t slot_of(const HeadRow& row) const {
    return static_cast<std::int32_t>(&row - rows_.data());
  }
  std::int32_t slot_of(std::int32_t micro_batch, std::int32_t gpu_batch, std::int32_t index) const;

  // Rows come and go:
  bool take_next();
  bool fill(std::int32_t slot);
  bool fill_free(std::int32_t micro_batch);
  void start(HeadRow& row);
  void fail(HeadRow& row, std::int32_t why);
  void finish(HeadRow& row);
  void leave(HeadRow& row);

  // Pages of rows that grow (head_pages.cc):
  bool is_short(std::int32_t slot) const;
  void make_room();
  bool find_page(std::int32_t slot);
  bool is_leaving(PoolName pool) const;
  HeadRow& youngest(PoolName pool);
  void step_back(HeadRow& row);

  // Guesses (head_drafts.cc):
  void draft(std::int32_t micro_batch);
  void add_draft_rows(std::int32_t micro_batch, std::int32_t gpu_batch);
  void judge_guesses(const PassRow& made, std::int32_t results, std::int32_t taken);

  // Pages that rows begin with (head_prefixes.cc):
  void join_queue(HeadRow next);
  std::span<const std::int32_t> find_prefix(const HeadRow& next, std::int32_t kind);
  bool is_held(HeadRow& next, std::int32_t kind);
  bool take_pages(std::int32_t slot, HeadRow& next, std::int32_t kind);
  void leave_prefix(HeadRow& row);
  void evict_idle();
  void keep_pages(HeadRow& source, PassRow& added, Pass& pass);
  void find_copies(std::int32_t micro_batch);
  void find_copy(HeadRow& next) const;

  // Passes:
  /// New tokens of a row that a pass with room for `left` more takes now.
  std::int32_t tokens_for(const HeadRow& row, std::int32_t left, bool may_sample) const;
  void add_row(std::int32_t slot, std::int32_t gpu_batch, std::int32_t tokens, Pass& pass);
  void add_gpu_batch(std::int32_t micro_batch, std::int32_t gpu_batch, Pass& pass);
  void take_entry(const PassRow& made, HeadRow& row, const PassResult& entry,
                  const PassResults& results);
  void take_embedding(HeadRow& row, std::span<const float> values);
  void take_token(HeadRow& row, const TokenResult& result);

  Job& job_;
  Batching batching_;
  std::int32_t micro_batches_;
  std::vector<HeadRow> rows_;   // by slot
  std::vector<bool> sampling_;  // by micro-batch
  std::size_t look_ahead_;
  PageLedger ledger_;
  GrammarLedger grammars_;
  PrefixTree prefixes_;
  /// For a place and pages: those that stepped back, the oldest first, then those that never
  /// started.
  std::deque<HeadRow> waiting_;
  bool holds_ = false;  // one waits for pages that a row under way computes
  bool no_more_ = false;
  std::vector<std::int32_t> freed_;    // slots that no pass has told the stages of
  std::vector<std::int32_t> dropped_;  // prefixes that no pass has told the stages of
  std::vector<char> kinds_;            // scratch: kinds of prefixes that may be evicted
  std::vector<std::int32_t> found_;    // scratch of find_prefix()
  std::vector<std::int32_t> short_;    // slots whose rows lack a page for their next token
  std::uint64_t taken_ = 0;            // requests of the job so far
  std::uint64_t started_ = 0;          // ... of which so many have started
  std::int32_t active_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t completion_tokens_ = 0;
  std::uint64_t decode_tokens_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t cancelled_ = 0;
  std::uint64_t stepped_back_ = 0;
  std::uint64_t recomputed_tokens_ = 0;
  // Guesses; without a drafter there are none:
  LookUpDrafter look_up_;
  Drafter* drafter_ = nullptr;
  DraftPace pace_;
  std::vector<std::int32_t> guesses_;  // [micro-batch rows, draft_tokens]
  std::vector<DraftRow> draft_rows_;   // of the pass that is made now
  std::uint64_t draft_passes_ = 0;
  std::uint64_t starts_ = 0;
  std::uint64_t drafted_tokens_ = 0;
  std::uint64_t accepted_tokens_ = 0;
  std::uint64_t shared_prefix_tokens_ = 0;
};

/// Host memory that run_head() takes: passes under way, their messages and results, and the
/// requests of every slot with max_sequence_tokens.
std::uint64_t head_memory(const Batching& batching, std::int32_t stages);

/// Runs a job to its end: sends passes to this rank's own stage loop (Route::passes) and receives
/// results from the last rank (Route::results); ends with a pass marked `end`. Blocks; while there
/// is nothing to do it sleeps on job.line().bell(), which results ring, too. After HeadLine::stop()
/// it takes back the passes under way and ends, whatever the job has left (RunReport::stopped).
/// Throws what the job throws, CommError, and CapacityError for a request that may need more pages
/// than the caches have when nothing else is in them.
/// `rooms`: of the cache of each stage; none: without limits. `drafter` as Admission has it.
RunReport run_head(Job& job, const Batching& batching, comm::World& world,
                   const std::vector<CacheRoom>& rooms = {}, Drafter* drafter = nullptr);

}  // namespace sluice::stage
