// The head's rule for rows that grow where a pool has run dry.
#include <algorithm>
#include <utility>

#include "stage/head.h"

namespace sluice::stage {

/// Its next token is known, and has no page.
bool Admission::is_short(std::int32_t slot) const {
  const HeadRow& grown = row(slot);
  return grown.goes_on() && grown.decoding() && grown.known() > grown.issued &&
         ledger_.reserved(slot) <= grown.issued;
}

/// To be called when rows have grown or pages have come back.
void Admission::make_room() {
  const auto age_of = [this](std::int32_t slot) { return row(slot).age; };
  std::ranges::sort(short_, {}, age_of);
  const auto repeated = std::ranges::unique(short_);
  short_.erase(repeated.begin(), repeated.end());
  std::erase_if(short_, [this](std::int32_t slot) { return !is_short(slot) || find_page(slot); });
}

/// False: it must wait until the passes of a row that leaves are back. True: it has a page, or has
/// stepped back itself.
bool Admission::find_page(std::int32_t slot) {
  const HeadRow& grown = row(slot);
  while (!ledger_.grow(slot, grown.issued + 1)) {
    const PoolName pool = ledger_.short_of(slot, grown.issued + 1);
    if (is_leaving(pool)) return false;
    HeadRow& victim = youngest(pool);
    if (victim.passes > 0) {
      victim.stepping = true;
      return false;
    }
    step_back(victim);
    if (&victim == &grown) return true;
  }
  evict_idle();
  return true;
}

/// Whether some row there gives back its pages as soon as its passes are back.
bool Admission::is_leaving(PoolName pool) const {
  return std::ranges::any_of(rows_, [&](const HeadRow& one) {
    return one.active && !one.goes_on() && ledger_.is_in(pool, slot_of(one));
  });
}

/// Of those that go on there.
HeadRow& Admission::youngest(PoolName pool) {
  const auto older = [&](const HeadRow& a, const HeadRow& b) {
    const auto rank = [&](const HeadRow& one) {
      return std::pair(one.goes_on() && ledger_.is_in(pool, slot_of(one)), one.age);
    };
    return rank(a) < rank(b);
  };
  return *std::ranges::max_element(rows_, older);
}

/// Pre: none of its passes is under way.
void Admission::step_back(HeadRow& target) {
  leave(target);
  ++stepped_back_;
  HeadRow back = std::exchange(target, {});
  back.active = back.stepping = false;
  back.copied = 0;
  const std::int32_t held = std::exchange(back.issued, 0);
  if (std::exchange(back.on_stages, false)) back.computed = held;
  const auto place =
      std::ranges::find_if(waiting_, [&](const HeadRow& other) { return other.age > back.age; });
  waiting_.insert(place, std::move(back));
}

std::int32_t Admission::steps_with_pages(std::int32_t most) const {
  std::vector<std::int32_t> tokens(rows_.size());
  const auto suffice = [&](std::int32_t steps) {
    for (std::size_t slot = 0; slot < rows_.size(); ++slot) {
      const HeadRow& one = rows_[slot];
      tokens[slot] = one.active ? std::min(one.issued + 1 + steps, one.total()) : 0;
    }
    return ledger_.can_grow(tokens);
  };
  if (suffice(most)) return most;
  std::int32_t enough = 0;
  for (std::int32_t too_many = most; too_many - enough > 1;) {
    const std::int32_t steps = enough + (too_many - enough) / 2;
    (suffice(steps) ? enough : too_many) = steps;
  }
  return enough;
}

}  // namespace sluice::stage
