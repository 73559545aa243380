#include "tests/comm/world_laws.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>
#include <source_location>
#include <stdexcept>

namespace {
std::atomic<std::int64_t> allocations{0};
}  // namespace

// Counts for the law that messages allocate nothing.
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* data = std::malloc(bytes > 0 ? bytes : 1)) return data;
  throw std::bad_alloc();
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }

namespace sluice::comm {
namespace {

using Bytes = std::vector<std::byte>;

void require(bool condition, const std::string& what,
             std::source_location place = std::source_location::current()) {
  if (!condition) throw std::runtime_error(fmt::format("line {}: {}", place.line(), what));
}

/// Bytes that tell where a message came from, so that a wrong one is noticed anywhere in it.
Bytes pattern(std::size_t bytes, int seed) {
  Bytes data(bytes);
  std::uint32_t state = 2654435769U * static_cast<std::uint32_t>(seed + 1);
  for (std::byte& byte : data) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24);
  }
  return data;
}

int next_rank(const World& world) { return (world.rank() + 1) % world.size(); }
int previous_rank(const World& world) { return (world.rank() + world.size() - 1) % world.size(); }
std::span<const std::byte> bytes_of(const int& value) {
  return std::as_bytes(std::span(&value, 1));
}
std::span<std::byte> room_for(int& value) { return std::as_writable_bytes(std::span(&value, 1)); }

void ranks_know_each_other(World& world) {
  require(world.rank() >= 0 && world.rank() < world.size(), "the rank lies outside of the job");
  require(static_cast<int>(world.hosts().size()) == world.size(), "hosts() lacks a rank");
  for (const Host& host : world.hosts()) {
    require(!host.name.empty() && host.pid > 0, "a host has no name or pid");
  }
  require(world.ranks_on_host() == world.size(), "all ranks of this test share a host");
  require(world.local_rank() == world.rank(), "local ranks are in the order of ranks");
}

void messages_of_a_route_keep_their_order(World& world) {
  constexpr int kMessages = 200;
  const int next = next_rank(world);
  const int previous = previous_rank(world);
  std::array<int, kMessages> sent;
  std::iota(sent.begin(), sent.end(), 1000 * world.rank());
  for (int first = 0; first < kMessages; first += 50) {
    std::array<Transfer, 50> sends;
    std::array<Transfer, 50> receives;
    std::array<int, 50> got = {};
    for (std::size_t i = 0; i < sends.size(); ++i) {
      sends[i] =
          world.send(Route::hidden, next, bytes_of(sent[static_cast<std::size_t>(first) + i]));
    }
    for (std::size_t i = 0; i < receives.size(); ++i) {
      receives[i] = world.receive(Route::hidden, previous, room_for(got[i]));
    }
    for (std::size_t i = receives.size(); i-- > 0;) {  // waiting in any order changes nothing
      require(world.wait(receives[i]) == sizeof(int), "a message has another length");
      require(world.wait(sends[i]) == sizeof(int), "a send has another length");
      require(got[i] == 1000 * previous + first + static_cast<int>(i), "messages changed places");
    }
  }
}

void receives_may_be_posted_before_the_sends(World& world) {
  int first = 0;
  int second = 0;
  const Transfer receive_first =
      world.receive(Route::passes, previous_rank(world), room_for(first));
  const Transfer receive_second =
      world.receive(Route::passes, previous_rank(world), room_for(second));
  world.gather("");  // now all ranks have posted theirs

  const int one = 1 + world.rank();
  const int two = 100 + world.rank();
  const Transfer send_first = world.send(Route::passes, next_rank(world), bytes_of(one));
  const Transfer send_second = world.send(Route::passes, next_rank(world), bytes_of(two));
  world.wait(receive_second);
  world.wait(receive_first);
  world.wait(send_first);
  world.wait(send_second);
  require(first == 1 + previous_rank(world), "the first receive got another message");
  require(second == 100 + previous_rank(world), "the second receive got another message");
}

// A large message on one route that nobody receives yet must not hold back another route's.
void routes_do_not_wait_for_each_other(World& world) {
  const Bytes large = pattern(std::size_t{4} << 20, world.rank());
  Bytes large_got(large.size());
  const Transfer send_large = world.send(Route::hidden, next_rank(world), large);
  for (const Route route : {Route::passes, Route::results}) {
    const int small = world.rank();
    int small_got = -1;
    const Transfer send = world.send(route, next_rank(world), bytes_of(small));
    const Transfer receive = world.receive(route, previous_rank(world), room_for(small_got));
    world.wait(receive);
    world.wait(send);
    require(small_got == previous_rank(world), "the small message is another one");
  }
  const Transfer receive_large = world.receive(Route::hidden, previous_rank(world), large_got);
  world.wait(receive_large);
  world.wait(send_large);
  require(large_got == pattern(large.size(), previous_rank(world)), "the large message changed");
}

// Around the size of a chunk every length is a case of its own; room may be more than is needed.
void messages_of_any_length_arrive(World& world) {
  constexpr std::size_t kChunk = kLawChunkBytes;
  int seed = 0;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, kChunk - 1, kChunk, kChunk + 1,
                                  2 * kChunk, 5 * kChunk + 7, std::size_t{3} << 20}) {
    for (const std::size_t spare : {std::size_t{0}, std::size_t{1}, kChunk, 3 * kChunk}) {
      ++seed;
      const Bytes sent = pattern(bytes, seed + 1000 * world.rank());
      Bytes got(bytes + spare);
      const Transfer send = world.send(Route::hidden, next_rank(world), sent);
      const Transfer receive = world.receive(Route::hidden, previous_rank(world), got);
      require(world.wait(receive) == bytes, fmt::format("{} bytes have another length", bytes));
      require(world.wait(send) == bytes,
              fmt::format("{} bytes were sent as another length", bytes));
      got.resize(bytes);
      require(got == pattern(bytes, seed + 1000 * previous_rank(world)),
              fmt::format("{} bytes changed on their way", bytes));
    }
  }
}

void long_and_short_messages_keep_their_order(World& world) {
  const std::array<std::size_t, 6> lengths{10, 3 * kLawChunkBytes, 20, kLawChunkBytes, 0, 30};
  std::vector<Bytes> sent;
  std::vector<Bytes> got;
  std::vector<Transfer> transfers;
  for (const std::size_t bytes : lengths) {
    got.emplace_back(2 * kLawChunkBytes + bytes);
    sent.push_back(pattern(bytes, static_cast<int>(sent.size()) + 100 * world.rank()));
  }
  for (Bytes& room : got) {
    transfers.push_back(world.receive(Route::results, previous_rank(world), room));
  }
  std::vector<Transfer> sends;
  for (const Bytes& message : sent) {
    sends.push_back(world.send(Route::results, next_rank(world), message));
  }
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    require(world.wait(transfers[i]) == lengths[i], fmt::format("message {} is another one", i));
    got[i].resize(lengths[i]);
    require(got[i] == pattern(lengths[i], static_cast<int>(i) + 100 * previous_rank(world)),
            fmt::format("message {} changed", i));
    world.wait(sends[i]);
  }
}

void a_rank_can_send_to_itself(World& world) {
  constexpr int kMessages = 20;
  std::array<int, kMessages> got = {};
  std::array<int, kMessages> sent = {};
  std::array<Transfer, kMessages> sends;
  std::array<Transfer, kMessages> receives;
  for (std::size_t i = 0; i < sends.size(); ++i) {
    sent[i] = static_cast<int>(i) + 7;
    sends[i] = world.send(Route::results, world.rank(), bytes_of(sent[i]));
    receives[i] = world.receive(Route::results, world.rank(), room_for(got[i]));
  }
  for (std::size_t i = 0; i < sends.size(); ++i) {
    world.wait(sends[i]);
    world.wait(receives[i]);
  }
  require(got == sent, "messages to oneself changed places");
}

void messages_between_all_pairs_do_not_mix(World& world) {
  const auto ranks = static_cast<std::size_t>(world.size());
  std::vector<int> sent(ranks);
  std::vector<int> got(ranks, -1);
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < world.size(); ++peer) {
    const auto i = static_cast<std::size_t>(peer);
    sent[i] = 10 * world.rank() + peer;
    transfers.push_back(world.receive(Route::passes, peer, room_for(got[i])));
    transfers.push_back(world.send(Route::passes, peer, bytes_of(sent[i])));
  }
  for (const Transfer transfer : transfers) world.wait(transfer);
  for (int peer = 0; peer < world.size(); ++peer) {
    require(got[static_cast<std::size_t>(peer)] == 10 * peer + world.rank(),
            "a message went astray");
  }
}

void done_tells_what_wait_tells(World& world) {
  int got = -1;
  const int sent = 5;
  const Transfer receive = world.receive(Route::hidden, previous_rank(world), room_for(got));
  world.gather("");
  require(!world.done(receive), "a receive was complete before its send");
  world.gather("");
  const Transfer send = world.send(Route::hidden, next_rank(world), bytes_of(sent));
  std::size_t bytes = 0;
  while (!world.done(receive, &bytes)) {
  }
  while (!world.done(send)) {
  }
  require(bytes == sizeof(int) && got == sent, "done() told another length");
}

void a_transfer_is_forgotten_once_complete(World& world) {
  const int sent = 5;
  int got = -1;
  const Transfer receive = world.receive(Route::hidden, world.rank(), room_for(got));
  const Transfer send = world.send(Route::hidden, world.rank(), bytes_of(sent));
  world.wait(receive);
  world.wait(send);
  for (const Transfer transfer : {receive, send, Transfer{}}) {
    bool refused = false;
    try {
      world.wait(transfer);
    } catch (const Error&) {
      refused = true;
    }
    require(refused, "a transfer was complete twice");
  }
}

void a_message_to_nobody_is_refused(World& world) {
  for (const int peer : {-1, world.size()}) {
    bool refused = false;
    try {
      world.send(Route::hidden, peer, {});
    } catch (const Error&) {
      refused = true;
    }
    require(refused, "a message to nobody was taken");
  }
}

void at_most_8192_messages_are_under_way(World& world) {
  // Two passes of 1024 GPU batches, sent and received, and as many passes of the head.
  std::array<Transfer, 8192> transfers;
  for (std::size_t i = 0; i < transfers.size(); ++i) {
    transfers[i] = i % 2 == 0 ? world.send(Route::hidden, world.rank(), {})
                              : world.receive(Route::hidden, world.rank(), {});
  }
  bool refused = false;
  try {
    world.send(Route::hidden, world.rank(), {});
  } catch (const Error&) {
    refused = true;
  }
  require(refused, "message 8193 was taken");
  for (const Transfer transfer : transfers) world.wait(transfer);
}

void gather_and_broadcast_reach_every_rank(World& world) {
  for (const std::size_t length : {std::size_t{0}, std::size_t{10}, std::size_t{100000}}) {
    // Every rank's text has another length.
    const std::string mine(length + static_cast<std::size_t>(world.rank()),
                           static_cast<char>('a' + world.rank()));
    const std::vector<std::string> all = world.gather(mine);
    require(static_cast<int>(all.size()) == world.size(), "a text is missing");
    for (int rank = 0; rank < world.size(); ++rank) {
      require(
          all[static_cast<std::size_t>(rank)] ==
              std::string(length + static_cast<std::size_t>(rank), static_cast<char>('a' + rank)),
          "a text is another one");
    }
    require(world.broadcast(fmt::format("from {}", world.rank())) == "from 0",
            "the broadcast is not rank 0's");
  }
}

void agreement_is_reached_on_every_rank(World& world) {
  agree(world, nullptr);
  const CapacityError problem("too small");
  ExitStatus status = ExitStatus::done;
  std::string sentence;
  try {
    agree(world, world.rank() == world.size() - 1 ? &problem : nullptr);
  } catch (const Error& error) {
    status = error.status();
    sentence = error.what();
  }
  require(status == ExitStatus::no_space, "a rank did not hear of the problem");
  const std::string expected =
      world.size() == 1 ? "too small" : fmt::format("rank {}: too small", world.size() - 1);
  require(sentence == expected, "the problem has another name: " + sentence);
}

void a_handshake_tells_differences(World& world) {
  handshake(world, {{"version", "1"}});
  bool refused = false;
  try {
    handshake(world, {{"version", std::to_string(world.rank())}});
  } catch (const ConfigError&) {
    refused = true;
  }
  require(refused == (world.size() > 1), "the handshake decided wrongly");
}

void the_head_knows_what_every_rank_does(World& world) {
  world.step("layer", 7, 40 + world.rank());
  world.gather("");  // all have come here
  if (world.rank() == 0) {
    for (int rank = 0; rank < world.size(); ++rank) {
      require(describe(world.step_of(rank)) == fmt::format("pass 7, layer {}", 40 + rank),
              fmt::format("the step of rank {}", rank));
    }
  }
  world.gather("");
}

void messages_allocate_nothing(World& world) {
  std::array<int, 4> got = {};
  const auto exchange = [&](int rounds) {
    for (int round = 0; round < rounds; ++round) {
      std::array<Transfer, 8> transfers;
      for (std::size_t i = 0; i < got.size(); ++i) {
        transfers[2 * i] = world.receive(Route::hidden, previous_rank(world), room_for(got[i]));
        transfers[2 * i + 1] = world.send(Route::hidden, next_rank(world), bytes_of(round));
        world.step("layer", round, static_cast<std::int64_t>(i));
      }
      for (const Transfer transfer : transfers) world.wait(transfer);
    }
  };
  // Ranks of one process share the counter, so none may do anything else while another counts. A
  // rank that has gone round as often as there are ranks knows that all have come this far.
  exchange(100 + world.size());
  const std::int64_t before = allocations;
  exchange(1000);
  const std::int64_t allocated = allocations - before;
  exchange(world.size());
  require(allocated == 0, fmt::format("8000 messages made {} allocations", allocated));
}

constexpr std::array kLaws{
    Law{"ranks_know_each_other", ranks_know_each_other},
    Law{"messages_of_a_route_keep_their_order", messages_of_a_route_keep_their_order},
    Law{"receives_may_be_posted_before_the_sends", receives_may_be_posted_before_the_sends},
    Law{"routes_do_not_wait_for_each_other", routes_do_not_wait_for_each_other},
    Law{"messages_of_any_length_arrive", messages_of_any_length_arrive},
    Law{"long_and_short_messages_keep_their_order", long_and_short_messages_keep_their_order},
    Law{"a_rank_can_send_to_itself", a_rank_can_send_to_itself},
    Law{"messages_between_all_pairs_do_not_mix", messages_between_all_pairs_do_not_mix},
    Law{"done_tells_what_wait_tells", done_tells_what_wait_tells},
    Law{"a_transfer_is_forgotten_once_complete", a_transfer_is_forgotten_once_complete},
    Law{"a_message_to_nobody_is_refused", a_message_to_nobody_is_refused},
    Law{"at_most_8192_messages_are_under_way", at_most_8192_messages_are_under_way},
    Law{"gather_and_broadcast_reach_every_rank", gather_and_broadcast_reach_every_rank},
    Law{"agreement_is_reached_on_every_rank", agreement_is_reached_on_every_rank},
    Law{"a_handshake_tells_differences", a_handshake_tells_differences},
    Law{"the_head_knows_what_every_rank_does", the_head_knows_what_every_rank_does},
    Law{"messages_allocate_nothing", messages_allocate_nothing},
};

}  // namespace

std::span<const Law> world_laws() { return kLaws; }

}  // namespace sluice::comm
