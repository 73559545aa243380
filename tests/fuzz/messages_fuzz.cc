// What one rank sends to another, of any bytes: refused with a CommError, or a message that is the
// same when it is sent on. The first byte says which message it is.
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "comm/control_message.h"
#include "comm/gather.h"
#include "stage/pass_check.h"
#include "tests/fuzz/refusal.h"

namespace {

namespace comm = sluice::comm;
namespace fuzz = sluice::fuzz;
namespace stage = sluice::stage;
using Bytes = std::span<const std::byte>;

constexpr std::int32_t kStages = 2;
constexpr std::int32_t kVocabulary = 300;

stage::Batching batching() {
  stage::Batching batching;
  batching.gpu_batch_size = 3;
  batching.num_gpu_batches = 2;
  batching.max_tokens_per_gpu_batch = 8;
  batching.max_sequence_tokens = 64;
  batching.draft_tokens = 3;
  return batching;
}

bool begins_with(Bytes bytes, Bytes with) {
  return with.size() <= bytes.size() && std::memcmp(bytes.data(), with.data(), with.size()) == 0;
}

void check_control(Bytes bytes) {
  const auto message = comm::decode(bytes);
  if (!message) return;
  static_cast<void>(comm::describe(message->step));
  comm::ControlBytes again;
  const std::size_t size = comm::encode(*message, again);
  fuzz::require(begins_with(bytes, Bytes(again).first(size)), "a control message is another");
}

/// True: `decode` and `check` let the bytes through.
template <typename Message, typename Check>
bool reads(Bytes bytes, Message& message, const Check& check) {
  return fuzz::accepts(sluice::ExitStatus::peer_lost, [&] {
    stage::decode(bytes, message);
    check(message);
  });
}

/// Sent on and read again it is the same. (Bytes that mean nothing need not be.)
template <typename Message>
void check_sent_on(Bytes bytes, const Message& message) {
  std::vector<std::byte> room(bytes.size());
  const Bytes sent = stage::encode(message, room);
  Message again;
  stage::decode(sent, again);
  std::vector<std::byte> more(bytes.size());
  const Bytes sent_again = stage::encode(again, more);
  fuzz::require(sent.size() == sent_again.size() && begins_with(sent, sent_again),
                "a message is another when sent on");
}

void check_pass(Bytes bytes) {
  stage::Pass pass;
  const bool good = reads(bytes, pass, [](const stage::Pass& read) {
    stage::check_pass(read, batching(), kStages, kVocabulary);
  });
  if (!good) return;
  check_sent_on(bytes, pass);
  // What buffers and tables are indexed with.
  for (const stage::PassRow& row : pass.rows) {
    const std::int32_t end = row.first_token + row.new_tokens;
    fuzz::require(end <= pass.batch_tokens.at(static_cast<std::size_t>(row.gpu_batch)) &&
                      end <= batching().max_tokens_per_gpu_batch && row.slot >= 0 &&
                      row.slot < batching().slots(kStages),
                  "a row lies outside its GPU batch");
    // A row of logits for each token that is wanted: no more than the row's new tokens.
    const std::int32_t scored = row.end_scored() - row.first_scored();
    fuzz::require(scored + (row.sample ? 1 + row.drafted : 0) <= row.new_tokens,
                  "a row wants more logits than it has tokens");
  }
}

void check_results(Bytes bytes) {
  stage::PassResults results;
  if (!reads(bytes, results, [](const stage::PassResults&) {})) return;
  check_sent_on(bytes, results);
  for (const stage::PassResult& entry : results.entries) {
    const auto top = results.result_of(entry).top;
    fuzz::require(top.size() <= results.candidates.size(), "candidates of nobody");
  }
}

using Facts = std::vector<std::pair<std::string, std::string>>;
struct Numbers {
  std::array<std::int32_t, 2> pair = {};
  std::vector<double> list;
  std::string text;
  static auto fields(auto& self) { return std::tie(self.pair, self.list, self.text); }
};

/// `Shape<T>` stands before the value, so that the fuzzer need not guess it.
template <typename T>
void check_gathered(Bytes bytes) {
  comm::wire::Writer shape;
  shape.put(comm::wire::Shape<T>::value);
  const std::string text =
      shape.take() + std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  T value;
  const bool good = fuzz::accepts(sluice::ExitStatus::peer_lost,
                                  [&] { value = comm::wire::from_bytes<T>(text, 0); });
  if (good) fuzz::require(comm::wire::to_bytes(value) == text, "a gathered value is another");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Bytes bytes = std::as_bytes(std::span(data + 1, size - 1));
  switch (data[0] % 5) {
    case 0:
      check_control(bytes.first(std::min(bytes.size(), comm::kControlBytes)));
      break;
    case 1:
      check_pass(bytes);
      break;
    case 2:
      check_results(bytes);
      break;
    case 3:
      check_gathered<Facts>(bytes);
      break;
    default:
      check_gathered<Numbers>(bytes);
  }
  return 0;
}
