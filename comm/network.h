// The network between the hosts of a job: what MPI is told before it starts, and which interfaces
// its connections go through afterwards.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/launch.h"
#include "comm/world.h"

namespace sluice::comm {

/// The variable that says which interfaces and networks MPI may use: "eth0", "10.77.0.0/24".
constexpr const char* kIncludedInterfaces = "OMPI_MCA_btl_tcp_if_include";

/// An address of an interface of this host.
struct InterfaceAddress {
  std::string interface;  // "eth0"
  std::string address;    // "10.77.0.1", "fe80::1"
  int prefix_bits = 0;    // of the network's part
  bool is_loopback = false;
};

/// Those of interfaces that are up.
std::vector<InterfaceAddress> addresses_of_host();

/// Environment variables that MPI should find where the user has set none of them. On one host they
/// leave out Open MPI's TCP, whose ranks would listen on every address of the host.
std::vector<std::pair<std::string, std::string>> mpi_environment(const Launch& launch);

/// Throws ConfigError where kIncludedInterfaces names only interfaces and networks that
/// this host has not. Open MPI itself ends the process then, with no word about the host.
void check_interfaces(const Environment& environment,
                      const std::vector<InterfaceAddress>& addresses);

/// Before MPI is started: sets mpi_environment(), and checks the interfaces of a job of several
/// hosts. Throws ConfigError. Main says it for rank 0. Other ranks wait here until rank 0 could end
/// the job; where it does not, the first rank of the host says it itself.
void prepare_network(const Launch& launch);

/// Why the ranks may not have met, and what to set: the rest of a sentence. `setting`: the value of
/// kIncludedInterfaces; null: not set.
std::string advice_on_interfaces(const char* setting,
                                 const std::vector<InterfaceAddress>& addresses);

/// "eth0 10.77.0.1": where this process's TCP connections to other hosts end on this one, as its
/// sockets say. Sorted; none twice. Empty where it has no such connection.
std::vector<std::string> connected_interfaces();

bool on_several_hosts(const std::vector<Host>& of_ranks);

/// "h1 eth0 10.77.0.1, h2 eth0 10.77.0.2", of the connected_interfaces() of each rank.
std::string network_text(const std::vector<Host>& hosts,
                         const std::vector<std::vector<std::string>>& of_ranks);

}  // namespace sluice::comm
