// How many requests of batches have places at a time: what live requests leave, but one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace sluice::launcher {

/// A request with more tokens than a place has pages for counts as several.
///
/// With `live` requests under way and `waiting` for places, requests of batches have at most
/// places - live - waiting - 1 places. The one is for the next live request, which so finds a free
/// place at the next pass. With one place in all, batches have it while nobody else wants it.
class BatchRoom {
 public:
  /// `places` of the pipeline; each has pages for a sequence of `tokens`.
  explicit BatchRoom(std::size_t places = 1, std::int64_t tokens = INT32_MAX)
      : places_(places), tokens_(tokens) {}

  enum class Kind : std::uint8_t {
    live,
    batch,   // may step back
    pinned,  // of a batch, too, but it ends soon by itself: a step of a beam search
  };

  /// A request of so many tokens, prompt and answer, goes to the pipeline.
  void begin(std::uint64_t id, std::int64_t tokens, Kind kind);
  /// It has ended, or stepped back.
  void end(std::uint64_t id);

  /// Whether one more request of a batch may begin while no live request waits.
  bool has_room(std::int64_t tokens) const;
  /// The requests of batches, the youngest first, that must step back for `waiting` live ones. They
  /// count as ended from now on.
  std::vector<std::uint64_t> step_back(std::size_t waiting);

 private:
  struct Held {
    std::size_t places = 0;
    Kind kind = Kind::live;
  };

  std::size_t places_for(std::int64_t tokens) const;
  std::size_t limit(std::size_t waiting) const;

  std::size_t places_;
  std::int64_t tokens_;
  std::unordered_map<std::uint64_t, Held> held_;
  std::vector<std::uint64_t> order_;  // of Kind::batch, the oldest first
  std::size_t live_ = 0;              // places of live requests
  std::size_t batch_ = 0;             // ... of the others
};

}  // namespace sluice::launcher
