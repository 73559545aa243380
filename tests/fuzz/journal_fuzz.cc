// A journal of any bytes: read as far as it is whole, and what was read is read again from a
// journal that is made of it. No chance finds a checksum, so behind a first byte that is even the
// bytes are payloads, each behind its length (one byte), which get checksums here.
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/jobs/journal_format.h"
#include "launcher/jobs/row_ids.h"

using sluice::launcher::JournalContent;
using sluice::launcher::JournalRecords;
using sluice::launcher::JournalRow;

namespace {

void check(bool right, const char* what) {
  if (right) return;
  std::cerr << "fuzz_journal: " << what << '\n';
  std::abort();
}

std::string with_checksums(std::string_view payloads) {
  std::string bytes = "SLUICEJ1";
  std::uint64_t sum = 0;
  while (!payloads.empty()) {
    const auto size = static_cast<unsigned char>(payloads.front());
    const std::string_view payload = payloads.substr(1, size);
    const auto length = static_cast<std::uint32_t>(payload.size());
    sum = sluice::launcher::hash_of(payload, sum);
    bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
    bytes.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    bytes += payload;
    payloads.remove_prefix(1 + payload.size());
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int32_t kVocabulary = 1000;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] % 2 == 0) bytes = with_checksums(std::string_view(bytes).substr(1));
  const auto read = sluice::launcher::read_journal(bytes, kVocabulary);
  if (!read) return 0;
  check(read->bytes <= bytes.size(), "it is whole beyond its end");
  JournalRecords records;
  records.begin(read->facts.empty() ? std::vector{sluice::launcher::JournalFact{"a", "b"}}
                                    : read->facts);
  std::uint32_t number = 0;
  for (const JournalRow& row : read->rows) {
    const auto made = sluice::launcher::decode_tokens(row.entries);
    check(static_cast<std::int64_t>(made.answer.size()) == row.tokens, "its tokens are miscounted");
    records.start(number, row.key);
    if (!row.entries.empty()) records.add(number, row.entries);
    ++number;
  }
  const auto again = sluice::launcher::read_journal(records.take(), kVocabulary);
  check(again && again->rows.size() == read->rows.size(), "a row is lost");
  for (std::size_t i = 0; i < read->rows.size(); ++i) {
    check(again->rows[i].key == read->rows[i].key, "a row is another's");
    check(again->rows[i].entries == read->rows[i].entries, "tokens are lost");
  }
  return 0;
}
