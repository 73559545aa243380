// One value of each rank, on every rank: World::gather() for structs instead of texts.
//
// What can travel: numbers, enums, std::string; std::array, std::vector and std::pair of what can
// travel; and every struct that names its members:
//
//   struct RankMemory {
//     std::string host;
//     std::uint64_t wanted = 0;
//     static auto fields(auto& self) { return std::tie(self.host, self.wanted); }
//   };
//
// Each message begins with a number that is computed from the type. A rank that sends another
// type, or too few or too many bytes, is named in a CommError. Numbers keep the machine's byte
// order: all ranks of a job run one program.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "comm/world.h"

namespace sluice::comm {

namespace wire {

template <class T>
concept Number = std::is_arithmetic_v<T> || std::is_enum_v<T>;
template <class T>
concept Fields = requires(T& value) {
  T::fields(value);
};

/// Which kinds of values there are, in order, folded into one number.
constexpr std::uint64_t fold(std::uint64_t seed, std::uint64_t next) {
  return (seed ^ next) * 0x100000001b3U;  // FNV-1a
}

template <class T>
struct Shape;
template <Number T>
struct Shape<T> {
  static constexpr std::uint64_t kKind = std::is_floating_point_v<T> ? 2 : std::is_signed_v<T>;
  static constexpr std::uint64_t value = fold(0x100 + kKind, sizeof(T));
};
template <>
struct Shape<std::string> {
  static constexpr std::uint64_t value = 0x200;
};
template <class T>
struct Shape<std::vector<T>> {
  static constexpr std::uint64_t value = fold(0x300, Shape<T>::value);
};
template <class T, std::size_t kCount>
struct Shape<std::array<T, kCount>> {
  static constexpr std::uint64_t value = fold(fold(0x400, kCount), Shape<T>::value);
};
template <class First, class Second>
struct Shape<std::pair<First, Second>> {
  static constexpr std::uint64_t value =
      fold(fold(0x500, Shape<First>::value), Shape<Second>::value);
};
template <class... Members>
struct Shape<std::tuple<Members&...>> {
  static constexpr std::uint64_t fold_all() {
    std::uint64_t all = 0x600;
    ((all = fold(all, Shape<std::remove_const_t<Members>>::value)), ...);
    return all;
  }
  static constexpr std::uint64_t value = fold_all();
};
template <Fields T>
struct Shape<T> {
  static constexpr std::uint64_t value = Shape<decltype(T::fields(std::declval<T&>()))>::value;
};

class Writer {
 public:
  template <class T>
  void put(const T& value) {
    if constexpr (Number<T>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else if constexpr (Fields<T>) {
      std::apply([this](const auto&... members) { (put(members), ...); }, T::fields(value));
    } else {
      put_many(value);
    }
  }
  std::string take() { return std::move(bytes_); }

 private:
  void put_many(const std::string& text) {
    put(std::uint64_t{text.size()});
    bytes_ += text;
  }
  template <class T>
  void put_many(const std::vector<T>& values) {
    put(std::uint64_t{values.size()});
    for (const T& value : values) put(value);
  }
  template <class T, std::size_t kCount>
  void put_many(const std::array<T, kCount>& values) {
    for (const T& value : values) put(value);
  }
  template <class First, class Second>
  void put_many(const std::pair<First, Second>& pair) {
    put(pair.first);
    put(pair.second);
  }

  std::string bytes_;
};

/// Reads what Writer wrote on rank `rank`. Throws CommError naming it, where it wrote otherwise.
class Reader {
 public:
  Reader(std::string_view bytes, std::size_t rank) : all_(bytes), rest_(bytes), rank_(rank) {}

  template <class T>
  void get(T& value) {
    if constexpr (Number<T>) {
      std::memcpy(&value, take(sizeof value).data(), sizeof value);
    } else if constexpr (Fields<T>) {
      std::apply([this](auto&... members) { (get(members), ...); }, T::fields(value));
    } else {
      get_many(value);
    }
  }
  /// Everything has been read.
  void end() const;
  [[noreturn]] void refuse() const;

 private:
  std::string_view take(std::size_t bytes) {
    if (bytes > rest_.size()) refuse();
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  std::size_t take_count() {
    std::uint64_t count = 0;
    get(count);
    if (count > rest_.size()) refuse();  // everything that is counted takes a byte, at least
    return count;
  }
  void get_many(std::string& text) { text = take(take_count()); }
  template <class T>
  void get_many(std::vector<T>& values) {
    values.resize(take_count());
    for (T& value : values) get(value);
  }
  template <class T, std::size_t kCount>
  void get_many(std::array<T, kCount>& values) {
    for (T& value : values) get(value);
  }
  template <class First, class Second>
  void get_many(std::pair<First, Second>& pair) {
    get(pair.first);
    get(pair.second);
  }

  std::string_view all_;
  std::string_view rest_;
  std::size_t rank_;
};

template <class T>
std::string to_bytes(const T& value) {
  Writer writer;
  writer.put(Shape<T>::value);
  writer.put(value);
  return writer.take();
}

template <class T>
T from_bytes(std::string_view bytes, std::size_t rank) {
  Reader reader(bytes, rank);
  std::uint64_t shape = 0;
  reader.get(shape);
  if (shape != Shape<T>::value) reader.refuse();
  T value{};
  reader.get(value);
  reader.end();
  return value;
}

}  // namespace wire

/// Every rank's value, by rank, on every rank. Collective. Throws CommError.
template <class T>
std::vector<T> gather(World& world, const T& mine) {
  std::vector<T> all;
  for (const std::string& bytes : world.gather(wire::to_bytes(mine))) {
    all.push_back(wire::from_bytes<T>(bytes, all.size()));
  }
  return all;
}

/// Rank 0's value, on every rank. Collective. Throws CommError.
template <class T>
T broadcast(World& world, const T& mine) {
  const bool is_root = world.rank() == 0;
  return wire::from_bytes<T>(world.broadcast(is_root ? wire::to_bytes(mine) : std::string()), 0);
}

}  // namespace sluice::comm
