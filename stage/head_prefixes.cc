// The head's rule for rows that begin with the same tokens.
#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "stage/head.h"

namespace sluice::stage {

namespace {

/// Full pages that both begin with, but 0 where these are not more than `more_than`, which is seen
/// by one page alone.
std::int32_t common_pages(const HeadRow& a, const HeadRow& b, std::int32_t page_tokens,
                          std::int32_t more_than) {
  const std::span<const std::int32_t> first(a.request.prompt);
  const std::span<const std::int32_t> second(b.request.prompt);
  const auto least = static_cast<std::size_t>(more_than) * static_cast<std::size_t>(page_tokens);
  const std::size_t end = least + static_cast<std::size_t>(page_tokens);
  if (a.root() != b.root() || std::min(first.size(), second.size()) < end ||
      !std::ranges::equal(first.subspan(least, end - least), second.subspan(least, end - least))) {
    return 0;
  }
  const auto common = std::ranges::mismatch(first, second).in1 - first.begin();
  return static_cast<std::int32_t>(common) / page_tokens;
}

}  // namespace

/// Puts a request that has come behind the last waiting one that it has most pages in common with.
/// A request is passed by no more that came later than the head looks ahead.
void Admission::join_queue(HeadRow next) {
  auto place = waiting_.end();
  if (prefixes_.is_on() && batching_.group_prefixes) {
    std::int32_t most = 0;
    // Those that stepped back stand in front.
    for (auto other = waiting_.end(); other != waiting_.begin() && !(--other)->is_counted;) {
      const std::int32_t pages = common_pages(next, *other, prefixes_.page_tokens(), most);
      if (pages <= most) continue;
      most = pages;
      place = other + 1;
    }
    const auto may_pass = [&](const HeadRow& one) {
      return one.number + look_ahead_ > next.number;
    };
    if (!std::all_of(place, waiting_.end(), may_pass)) place = waiting_.end();
  }
  waiting_.insert(place, std::move(next));
}

/// The pages of the longest prefix that the row may start behind.
std::span<const std::int32_t> Admission::find_prefix(const HeadRow& next, std::int32_t kind) {
  found_.clear();
  const std::int32_t* tokens = next.request.prompt.data();
  for (std::int32_t pages = next.shareable() / prefixes_.page_tokens(); pages > 0; --pages) {
    const std::int32_t last = found_.empty() ? next.root() : found_.back();
    const std::int32_t page = prefixes_.find(last, kind, tokens);
    if (page == PrefixTree::kNone) break;
    found_.push_back(page);
    tokens += prefixes_.page_tokens();
  }
  return found_;
}

/// Whether a row computes pages that this one, which waits, could start behind. It starts when
/// passes with these were made.
bool Admission::is_held(HeadRow& next, std::int32_t kind) {
  if (!prefixes_.is_on()) return false;
  const auto computes = [&](const HeadRow& author, std::int32_t tokens) {
    return author.goes_on() && author.adds_pages && author.kind == kind && author.issued < tokens;
  };
  if (next.behind >= 0) {
    const HeadRow& author = row(next.behind);
    if (author.number == next.behind_number && computes(author, next.behind_tokens)) return true;
    next.behind = -1;
  }
  const auto found = static_cast<std::int32_t>(find_prefix(next, kind).size());
  const std::int32_t page_tokens = prefixes_.page_tokens();
  for (const HeadRow& author : rows_) {
    if (!computes(author, author.prefill)) continue;
    const std::int32_t pages =
        std::min({common_pages(next, author, page_tokens, found), next.shareable() / page_tokens,
                  author.prefill / page_tokens});
    const std::int32_t tokens = pages * page_tokens;
    if (pages <= found || author.issued >= tokens) continue;
    next.behind = slot_of(author);
    next.behind_number = author.number;
    next.behind_tokens = tokens;
    return true;
  }
  return false;
}

/// Sets aside the pages that the slot has to have for a row to start there, behind the longest
/// prefix that there is. False: there are not enough.
bool Admission::take_pages(std::int32_t slot, HeadRow& next, std::int32_t kind) {
  next.kind = kind;
  if (prefixes_.is_on()) {
    const std::span<const std::int32_t> found = find_prefix(next, kind);
    next.path.reserve(static_cast<std::size_t>(next.total() / prefixes_.page_tokens() + 1));
    next.path.assign(found.begin(), found.end());
    for (const std::int32_t page : next.path) {
      if (prefixes_.use(page)) ledger_.set_used(kind);
    }
  }
  const auto shared = static_cast<std::int32_t>(next.path.size());
  const std::int32_t tokens = std::min(next.known() + ledger_.page_tokens(), next.total());
  if (ledger_.start(slot, tokens, next.total(), shared)) {
    next.adds_pages = prefixes_.is_on();
    next.issued = shared * ledger_.page_tokens();
    evict_idle();
    return true;
  }
  leave_prefix(next);  // another slot's home tier may have pages
  return false;
}

void Admission::leave_prefix(HeadRow& target) {
  for (; !target.path.empty(); target.path.pop_back()) {
    if (prefixes_.leave(target.path.back())) ledger_.set_idle(target.kind);
  }
}

/// For rows that are to start in the coming pass. What they copy was computed in passes before it.
void Admission::find_copies(std::int32_t micro_batch) {
  if (!prefixes_.is_on()) return;
  for (std::int32_t g = 0; g < batching_.num_gpu_batches; ++g) {
    for (std::int32_t index = 0; index < batching_.gpu_batch_size; ++index) {
      HeadRow& next = row(slot_of(micro_batch, g, index));
      if (next.goes_on() && !next.on_stages) find_copy(next);
    }
  }
}

/// Sets what the row may copy of the page in which it goes on: the most tokens that the page of a
/// prefix or of a row on the stages has. An earlier finding may be gone.
void Admission::find_copy(HeadRow& next) const {
  next.issued -= std::exchange(next.copied, 0);
  const std::int32_t page_tokens = prefixes_.page_tokens();
  const std::int32_t begin = next.issued;
  const std::int32_t most = std::min(next.shareable() - begin, page_tokens - 1);
  if (most < 1) return;
  const bool on_disk = ledger_.is_on_disk(next.kind);
  PrefixTree::Part part;
  if (!on_disk) {  // there a page that is full is in the file
    const std::int32_t last = next.path.empty() ? next.root() : next.path.back();
    part = prefixes_.find_part(last, next.kind, next.request.prompt.data() + begin, most);
  }
  std::int32_t of_slot = -1;
  for (const HeadRow& other : rows_) {
    const bool is_there = other.active && other.on_stages && other.kind == next.kind &&
                          other.root() == next.root() &&
                          (!on_disk || other.issued / page_tokens == begin / page_tokens);
    const std::int32_t end = std::min({other.issued, other.known(), begin + most});
    if (!is_there || end <= begin + part.tokens) continue;
    const auto own = next.request.prompt.begin();
    // Rows that differ mostly do so here.
    if (own[begin] != other.request.prompt[static_cast<std::size_t>(begin)]) continue;
    const auto common = std::mismatch(own, own + end, other.request.prompt.begin()).first - own;
    if (common <= begin + part.tokens) continue;
    part = {PrefixTree::kNone, static_cast<std::int32_t>(common) - begin};
    of_slot = slot_of(other);
  }
  next.copied = part.tokens;
  next.copied_from = part.page;
  next.copied_of_slot = of_slot;
  next.issued += part.tokens;
}

/// Makes good what the ledger has given of idle pages.
void Admission::evict_idle() {
  while (const std::optional<PoolName> pool = ledger_.overdrawn()) {
    for (std::size_t kind = 0; kind < kinds_.size(); ++kind) {
      kinds_[kind] = ledger_.lies_in(*pool, static_cast<std::int32_t>(kind)) ? 1 : 0;
    }
    const PrefixTree::Evicted evicted = prefixes_.evict(kinds_);
    ledger_.drop_idle(evicted.kind);
    dropped_.push_back(evicted.page);
  }
}

/// Of a row that is about to be in a pass: its pages that are full afterwards become prefixes, as
/// far as none of these is one already, whose page is another row's.
void Admission::keep_pages(HeadRow& source, PassRow& added, Pass& pass) {
  if (!source.adds_pages) return;
  const std::int32_t page_tokens = prefixes_.page_tokens();
  const std::int32_t slot = added.slot;
  added.kept_from = static_cast<std::int32_t>(source.path.size());
  const std::int32_t full =
      std::min(added.position + added.new_tokens, source.known()) / page_tokens;
  const std::int32_t most = (added.new_tokens - 1) / page_tokens + 2;
  while (added.kept < most && added.kept_from + added.kept < full) {
    const std::int32_t last = source.path.empty() ? source.root() : source.path.back();
    const std::int32_t* tokens =
        source.request.prompt.data() +
        static_cast<std::ptrdiff_t>(source.path.size()) * static_cast<std::ptrdiff_t>(page_tokens);
    source.adds_pages = prefixes_.find(last, source.kind, tokens) == PrefixTree::kNone;
    if (!source.adds_pages) return;
    source.path.push_back(prefixes_.add(last, source.kind, tokens));
    pass.kept.push_back(source.path.back());
    ledger_.give(slot);
    ++added.kept;
  }
}

}  // namespace sluice::stage
