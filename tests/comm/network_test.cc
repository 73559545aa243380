#include "comm/network.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

const std::vector<InterfaceAddress> kAddresses = {{"lo", "127.0.0.1", 8, true},
                                                  {"eth0", "10.77.0.1", 24, false},
                                                  {"eth0", "fe80::1", 64, false},
                                                  {"ib0", "192.168.9.4", 20, false}};

/// What is said of a value of kIncludedInterfaces; empty: it can be used.
std::string refusal_of(const char* setting) {
  try {
    check_interfaces(
        [&](const char* name) {
          EXPECT_STREQ(name, kIncludedInterfaces);
          return setting;
        },
        kAddresses);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

TEST(CheckInterfaces, TakesWhatTheHostHas) {
  for (const char* setting :
       {"eth0", "ib0,eth0", "lo", "10.77.0.0/24", "10.77.0.9/24", "10.0.0.0/8", "192.168.0.0/20",
        "10.77.0.1/32", "nosuch,eth0", "172.17.0.0/16,192.168.0.0/20"}) {
    EXPECT_EQ(refusal_of(setting), "") << setting;
  }
  EXPECT_EQ(refusal_of(nullptr), "");
  EXPECT_EQ(refusal_of(""), "");
}

TEST(CheckInterfaces, LeavesToMpiWhatItCannotRead) {
  for (const char* setting : {"2001:db8::/32", "10.77.0.0", "10.77/24", "10.77.0.0/x",
                              "10.77.0.0/33", "10.77.0.0/0", "10.77.0.0/"}) {
    EXPECT_EQ(refusal_of(setting), "") << setting;
  }
}

TEST(CheckInterfaces, RefusesWhatTheHostHasNot) {
  for (const char* setting : {"eth1", "eth", "eth00", "nosuch,ib1", "10.77.1.0/24", "10.77.0.2/32",
                              "172.17.0.0/16", "192.168.16.0/20"}) {
    EXPECT_THAT(refusal_of(setting),
                AllOf(HasSubstr(std::string(kIncludedInterfaces) + " is '" + setting + "'"),
                      HasSubstr("it has eth0 10.77.0.1/24, ib0 192.168.9.4/20")))
        << setting;
  }
}

TEST(MpiEnvironment, LeavesTcpOutWhereTheLauncherKnowsOneHost) {
  Launch launch;
  launch.processes = 2;
  EXPECT_THAT(mpi_environment(launch), IsEmpty());
  launch.one_host = true;
  EXPECT_THAT(mpi_environment(launch), UnorderedElementsAre(Pair("OMPI_MCA_pml", "ob1"),
                                                            Pair("OMPI_MCA_btl", "self,vader")));
}

TEST(Advice, SaysWhatIsSetAndWhatThereIs) {
  EXPECT_THAT(advice_on_interfaces("ib0", kAddresses),
              AllOf(HasSubstr("OMPI_MCA_btl_tcp_if_include is 'ib0'"),
                    HasSubstr("has eth0 10.77.0.1/24, ib0 192.168.9.4/20")));
  EXPECT_THAT(advice_on_interfaces(nullptr, {kAddresses[0]}),
              AllOf(HasSubstr("OMPI_MCA_btl_tcp_if_include is not set"),
                    HasSubstr("has none but the loopback")));
}

TEST(AddressesOfHost, HaveTheLoopback) {
  bool found = false;
  for (const InterfaceAddress& one : addresses_of_host()) {
    found = found || (one.address == "127.0.0.1" && one.prefix_bits == 8 && one.is_loopback);
  }
  EXPECT_TRUE(found);
}

/// tests/hosts shows what is found between hosts.
TEST(ConnectedInterfaces, LeaveOutConnectionsWithinTheHost) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, any, sizeof address), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, any, &bytes), 0);
  ASSERT_EQ(connect(client, any, bytes), 0);
  EXPECT_THAT(connected_interfaces(), IsEmpty());
  close(client);
  close(listener);
}

TEST(NetworkText, NamesEachHostOnce) {
  EXPECT_EQ(
      network_text(
          {{"h1", 1}, {"h2", 2}, {"h1", 3}, {"h3", 4}},
          {{"eth0 10.77.0.1"}, {"eth0 10.77.0.2", "ib0 192.168.9.2"}, {"eth0 10.77.0.1"}, {}}),
      "h1 eth0 10.77.0.1, h2 eth0 10.77.0.2 and ib0 192.168.9.2, h3 without TCP");
}

TEST(Hosts, AreSeveralWhereNamesDiffer) {
  EXPECT_FALSE(on_several_hosts({{"h1", 1}}));
  EXPECT_FALSE(on_several_hosts({{"h1", 1}, {"h1", 2}}));
  EXPECT_TRUE(on_several_hosts({{"h1", 1}, {"h1", 2}, {"h2", 3}}));
}

}  // namespace
}  // namespace sluice::comm
