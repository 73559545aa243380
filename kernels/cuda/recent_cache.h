// The values of the keys that were asked for last, up to a fixed number of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice::cuda {

/// Key: ==, and hash_of(key) by argument-dependent lookup. References to values stay valid until
/// the next find_or_make().
template <class Key, class Value>
class RecentCache {
 public:
  explicit RecentCache(std::size_t capacity) : capacity_(capacity) {
    hashes_.reserve(capacity);
    entries_.reserve(capacity);
  }

  /// The value of `key`; if there is none, make(), in the place of the one that was asked for
  /// longest ago. What make() throws leaves the others as they were.
  template <class Make>
  Value& find_or_make(const Key& key, const Make& make) {
    const std::uint64_t hash = hash_of(key);
    ++now_;
    for (std::size_t i = 0; i < hashes_.size(); ++i) {
      if (hashes_[i] != hash || !(entries_[i].key == key)) continue;
      entries_[i].used = now_;
      return entries_[i].value;
    }
    Entry made{key, make(), now_};
    if (entries_.size() < capacity_) {
      hashes_.push_back(hash);
      entries_.push_back(static_cast<Entry&&>(made));
      return entries_.back().value;
    }
    std::size_t oldest = 0;
    for (std::size_t i = 1; i < entries_.size(); ++i) {
      if (entries_[i].used < entries_[oldest].used) oldest = i;
    }
    hashes_[oldest] = hash;
    entries_[oldest] = static_cast<Entry&&>(made);
    return entries_[oldest].value;
  }

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Key key;
    Value value;
    std::uint64_t used;
  };
  std::size_t capacity_;
  std::uint64_t now_ = 0;
  std::vector<std::uint64_t> hashes_;  // of entries_, to look through quickly
  std::vector<Entry> entries_;
};

}  // namespace sluice::cuda
