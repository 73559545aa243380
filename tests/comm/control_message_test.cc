#include "comm/control_message.h"

#include <gtest/gtest.h>

#include "comm/world.h"

namespace sluice::comm {
namespace {

TEST(ControlMessage, ComesBackAsItWas) {
  ControlBytes bytes;
  const ControlMessage sent{ControlKind::failure, ExitStatus::no_space,
                            make_step("sampling", 17, -1), "the host tier is full"};
  const std::size_t length = encode(sent, bytes);
  const auto got = decode(std::span(bytes).first(length));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->kind, ControlKind::failure);
  EXPECT_EQ(got->status, ExitStatus::no_space);
  EXPECT_EQ(describe(got->step), "pass 17, sampling");
  EXPECT_EQ(got->sentence, "the host tier is full");
}

TEST(ControlMessage, AWishToStopHasItsStatusAndWhatAskedForIt) {
  ControlBytes bytes;
  const std::size_t length = encode({ControlKind::stop, ExitStatus::stopped, {}, "SIGUSR1"}, bytes);
  const auto got = decode(std::span(bytes).first(length));
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->kind, ControlKind::stop);
  EXPECT_EQ(got->status, ExitStatus::stopped);
  EXPECT_EQ(got->sentence, "SIGUSR1");
}

TEST(ControlMessage, ALongSentenceIsCutAndNotRefused) {
  ControlBytes bytes;
  const std::size_t length =
      encode({ControlKind::failure, ExitStatus::failure, {}, std::string(100000, 'x')}, bytes);
  EXPECT_EQ(length, kControlBytes);
  const auto got = decode(std::span(bytes).first(length));
  ASSERT_TRUE(got.has_value());
  EXPECT_GT(got->sentence.size(), 3900U);
  EXPECT_EQ(got->sentence, std::string(got->sentence.size(), 'x'));
}

TEST(ControlMessage, OtherBytesAreNone) {
  ControlBytes bytes;
  const std::size_t length = encode({}, bytes);
  for (std::size_t cut = 0; cut < length; ++cut) {
    EXPECT_FALSE(decode(std::span(bytes).first(cut)).has_value()) << cut;
  }
  for (const int status : {0, -1, 256}) {  // a failure that would end the job well
    ControlBytes failure;
    const std::size_t size =
        encode({ControlKind::failure, static_cast<ExitStatus>(status), {}, "why"}, failure);
    EXPECT_FALSE(decode(std::span(failure).first(size)).has_value()) << status;
  }
  bytes[0] = std::byte{99};
  EXPECT_FALSE(decode(std::span(bytes).first(length)).has_value());
}

}  // namespace
}  // namespace sluice::comm
