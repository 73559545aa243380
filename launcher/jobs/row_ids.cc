#include "launcher/jobs/row_ids.h"

#include <xxhash.h>

#include <algorithm>

namespace sluice::launcher {
namespace {

constexpr std::uint64_t kLineSeed = 1;
constexpr std::size_t kFewestPlaces = 1024;

/// Of 5 places 4 are used at most.
std::size_t places_for(std::size_t ids) { return std::max(kFewestPlaces, ids + ids / 4 + 1); }

}  // namespace

std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::uint64_t key_of_id(std::string_view custom_id) { return hash_of(custom_id); }

std::uint64_t key_of_line(std::int64_t line) {
  return XXH3_64bits_withSeed(&line, sizeof line, kLineSeed);
}

void RowIds::reserve(std::size_t ids) {
  if (places_for(ids) > keys_.size()) grow(places_for(ids));
}

std::size_t RowIds::find(std::uint64_t key) const {
  // The key's upper bits, scaled to the number of places.
  auto at = static_cast<std::size_t>((static_cast<unsigned __int128>(key) * keys_.size()) >> 64);
  while (marks_[at] != 0 && keys_[at] != key) at = at + 1 == keys_.size() ? 0 : at + 1;
  return at;
}

std::uint32_t* RowIds::place(std::uint64_t key) {
  if (places_for(size_ + 1) > keys_.size()) grow(2 * places_for(size_ + 1));
  const std::size_t at = find(key);
  if (marks_[at] == 0) {
    keys_[at] = key;
    ++size_;
  }
  return &marks_[at];
}

void RowIds::grow(std::size_t places) {
  std::vector<std::uint64_t> keys(places);
  std::vector<std::uint32_t> marks(places, 0);
  keys.swap(keys_);
  marks.swap(marks_);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (marks[i] == 0) continue;
    const std::size_t at = find(keys[i]);
    keys_[at] = keys[i];
    marks_[at] = marks[i];
  }
}

RowIds::Entry RowIds::meet(std::uint64_t key, std::int64_t line, bool made_up) {
  std::uint32_t* const mark = place(key);
  Entry before;
  if (*mark >= kLines) {
    const std::uint32_t known = *mark & ~kMadeUp;
    return {Met::row, known == kFar ? 0 : known - kLines, (*mark & kMadeUp) != 0};
  }
  if (*mark == kAnswered) before.met = Met::answered;
  if (*mark == kFailed) before.met = Met::failed;
  *mark = mark_of(line, made_up);
  return before;
}

std::uint32_t RowIds::mark_of(std::int64_t line, bool made_up) {
  const auto near = static_cast<std::uint32_t>(
      std::min<std::int64_t>(line + kLines, static_cast<std::int64_t>(kFar)));
  return near | (made_up ? kMadeUp : 0);
}

}  // namespace sluice::launcher
