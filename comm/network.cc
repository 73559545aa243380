#include "comm/network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <string_view>
#include <thread>

#include "comm/last_words.h"

namespace sluice::comm {
namespace {

/// "10.77.0.1"; an IPv4 address in IPv6's clothes as IPv4. Empty: of another family.
std::string text_of(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (address == nullptr) return {};
  if (address->sa_family == AF_INET) {
    const auto* four = reinterpret_cast<const sockaddr_in*>(address);
    return inet_ntop(AF_INET, &four->sin_addr, text.data(), text.size());
  }
  if (address->sa_family == AF_INET6) {
    const auto* six = reinterpret_cast<const sockaddr_in6*>(address);
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
      return inet_ntop(AF_INET, &six->sin6_addr.s6_addr[12], text.data(), text.size());
    }
    return inet_ntop(AF_INET6, &six->sin6_addr, text.data(), text.size());
  }
  return {};
}

int prefix_bits_of(const sockaddr* mask) {
  const auto bits_of = [](const void* bytes, std::size_t size) {
    int bits = 0;
    for (std::size_t i = 0; i < size; ++i) {
      bits += std::popcount(static_cast<const unsigned char*>(bytes)[i]);
    }
    return bits;
  };
  if (mask == nullptr) return 0;
  if (mask->sa_family == AF_INET) {
    return bits_of(&reinterpret_cast<const sockaddr_in*>(mask)->sin_addr, sizeof(in_addr));
  }
  return bits_of(&reinterpret_cast<const sockaddr_in6*>(mask)->sin6_addr, sizeof(in6_addr));
}

/// The number of an IPv4 address; false: it is none.
bool read_ipv4(const std::string& text, std::uint32_t* number) {
  in_addr address;
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return false;
  *number = ntohl(address.s_addr);
  return true;
}

/// Open MPI's rule: what begins with a letter is an interface, all else a network, "10.77.0.0/24".
/// A network that cannot be read here counts as there: MPI judges it.
bool is_there(const std::string& name, const std::vector<InterfaceAddress>& addresses) {
  const std::size_t slash = name.find('/');
  int bits = 0;
  std::uint32_t network = 0;
  const bool is_network = !name.empty() && std::isalpha(static_cast<unsigned char>(name[0])) == 0;
  if (is_network) {
    if (slash == std::string::npos || !read_ipv4(name.substr(0, slash), &network)) return true;
    const char* end = name.data() + name.size();
    if (std::from_chars(name.data() + slash + 1, end, bits).ptr != end) return true;
    if (bits < 1 || bits > 32) return true;
  }
  return std::any_of(addresses.begin(), addresses.end(), [&](const InterfaceAddress& one) {
    if (!is_network) return one.interface == name;
    std::uint32_t address = 0;
    return read_ipv4(one.address, &address) && ((address ^ network) >> (32 - bits)) == 0;
  });
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

/// "eth0 10.77.0.1/24, eth1 10.78.0.1/24": what leads out of this host.
std::string list_of(const std::vector<InterfaceAddress>& addresses) {
  std::vector<std::string> parts;
  for (const InterfaceAddress& one : addresses) {
    if (one.is_loopback || one.address.starts_with("fe80:")) continue;
    parts.push_back(fmt::format("{} {}/{}", one.interface, one.address, one.prefix_bits));
  }
  return parts.empty() ? "none but the loopback" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string name_of_host() {
  std::array<char, 256> name = {};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

/// Both ends of a TCP connection of this process; empty: file `descriptor` is something else.
std::pair<std::string, std::string> ends_of(int descriptor) {
  sockaddr_storage peer = {};
  sockaddr_storage own = {};
  socklen_t peer_bytes = sizeof peer;
  socklen_t own_bytes = sizeof own;
  int protocol = 0;
  socklen_t protocol_bytes = sizeof protocol;
  auto* peer_address = reinterpret_cast<sockaddr*>(&peer);
  auto* own_address = reinterpret_cast<sockaddr*>(&own);
  if (getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_bytes) != 0 ||
      protocol != IPPROTO_TCP) {
    return {};
  }
  if (getpeername(descriptor, peer_address, &peer_bytes) != 0) return {};
  if (getsockname(descriptor, own_address, &own_bytes) != 0) return {};
  return {text_of(own_address), text_of(peer_address)};
}

}  // namespace

std::vector<InterfaceAddress> addresses_of_host() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(first, &freeifaddrs);
  std::vector<InterfaceAddress> addresses;
  for (const ifaddrs* one = first; one != nullptr; one = one->ifa_next) {
    std::string address = text_of(one->ifa_addr);
    if (address.empty() || (one->ifa_flags & IFF_UP) == 0) continue;
    addresses.push_back({one->ifa_name, std::move(address), prefix_bits_of(one->ifa_netmask),
                         (one->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return addresses;
}

std::vector<std::pair<std::string, std::string>> mpi_environment(const Launch& launch) {
  if (!launch.one_host) return {};
  return {{"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_btl", "self,vader"}};
}

void check_interfaces(const Environment& environment,
                      const std::vector<InterfaceAddress>& addresses) {
  const char* included = environment(kIncludedInterfaces);
  if (included == nullptr) return;
  const std::vector<std::string> names = split_at_commas(included);
  const bool has_one = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return is_there(name, addresses);
  });
  if (has_one || names.empty()) return;
  throw ConfigError(fmt::format(
      "{} is '{}', which host {} does not have; name an interface or network that leads from it to "
      "the other hosts (it has {})",
      kIncludedInterfaces, included, name_of_host(), list_of(addresses)));
}

void prepare_network(const Launch& launch) {
  const auto variables = mpi_environment(launch);
  const bool user_chose = std::any_of(variables.begin(), variables.end(), [](const auto& one) {
    return std::getenv(one.first.c_str()) != nullptr;
  });
  if (!user_chose) {
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 0);
  }
  if (launch.one_host) return;
  try {
    check_interfaces(variable_of_process, addresses_of_host());
  } catch (const ConfigError& error) {
    constexpr std::chrono::seconds kPatience{6};  // mpirun ends ranks of other hosts after 3 s
    if (launch.rank == 0) throw;
    // A rank that leaves takes the job with it, so the speaker of the host leaves first.
    std::this_thread::sleep_for(launch.local_rank == 0 ? kPatience : 2 * kPatience);
    if (launch.local_rank == 0) print_error(fmt::format("rank {}: {}", launch.rank, error.what()));
    throw;
  }
}

std::string advice_on_interfaces(const char* setting,
                                 const std::vector<InterfaceAddress>& addresses) {
  const std::string state =
      setting != nullptr
          ? fmt::format("{} is '{}'", kIncludedInterfaces, setting)
          : fmt::format("{} is not set, so MPI tries all interfaces", kIncludedInterfaces);
  return fmt::format(
      "{}; set it to the interface or network that leads to all hosts (host {} has {})", state,
      name_of_host(), list_of(addresses));
}

std::vector<std::string> connected_interfaces() {
  const std::vector<InterfaceAddress> addresses = addresses_of_host();
  const auto find = [&](const std::string& address) {
    return std::find_if(addresses.begin(), addresses.end(),
                        [&](const InterfaceAddress& one) { return one.address == address; });
  };
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), &closedir);
  if (folder == nullptr) return {};
  std::set<std::string> found;
  while (const dirent* entry = readdir(folder.get())) {
    const auto [own, peer] = ends_of(std::atoi(entry->d_name));
    if (peer.empty() || find(peer) != addresses.end()) continue;  // within this host
    const auto interface = find(own);
    if (interface != addresses.end() && interface->is_loopback) continue;
    found.insert(interface == addresses.end() ? own
                                              : fmt::format("{} {}", interface->interface, own));
  }
  return {found.begin(), found.end()};
}

bool on_several_hosts(const std::vector<Host>& of_ranks) {
  return std::any_of(of_ranks.begin(), of_ranks.end(),
                     [&](const Host& host) { return host.name != of_ranks.front().name; });
}

std::string network_text(const std::vector<Host>& hosts,
                         const std::vector<std::vector<std::string>>& of_ranks) {
  std::vector<std::pair<std::string, std::set<std::string>>> of_hosts;
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    auto host = std::find_if(of_hosts.begin(), of_hosts.end(),
                             [&](const auto& one) { return one.first == hosts[rank].name; });
    if (host == of_hosts.end()) {
      host = of_hosts.insert(host, {hosts[rank].name, {}});
    }
    host->second.insert(of_ranks[rank].begin(), of_ranks[rank].end());
  }
  std::vector<std::string> parts;
  for (const auto& [name, interfaces] : of_hosts) {
    parts.push_back(interfaces.empty()
                        ? fmt::format("{} without TCP", name)
                        : fmt::format("{} {}", name, fmt::join(interfaces, " and ")));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace sluice::comm
