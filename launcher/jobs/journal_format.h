// The bytes of a journal: the tokens of answers that are under way.
//
//   file      "SLUICEJ1", then records
//   record    length of the payload u32, XXH3-64 u64 of the payload with that of the record before
//   as
//             its seed (0 for the first), payload
//   payload   of the first record: the facts, each a name and a value (length u32, bytes);
//             of all others: entries, one after the other
//   entry     's' number u32, name u64, digest u64: a row starts, and is chosen
//             'c' number u32: a row is chosen; tokens that follow are its
//             't' token i32: of the answer
//             'l' token i32, log-probability f32, count u8, count x (token i32, log-probability
//                 f32): likewise, with the likeliest
//             'p' as 'l': of the prompt
//
// A record counts whole or not at all. The first record that is cut off, or whose checksum does not
// fit, ends the journal: also one that is there twice, or follows one that is missing. Numbers are
// little-endian, as on every machine that sluice runs on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/jobs/answer.h"
#include "stage/request.h"

namespace sluice::launcher {

/// Something that must be as it was, for a run to go on with a journal.
struct JournalFact {
  std::string name;
  std::string value;
  bool operator==(const JournalFact&) const = default;
};

/// Which row a journal means. A row that was changed has another digest, and so is another row.
struct JournalKey {
  std::uint64_t name = 0;    // key_of_id() or key_of_line()
  std::uint64_t digest = 0;  // of all that its tokens depend on
  auto operator<=>(const JournalKey&) const = default;
};

enum class JournalToken : std::uint8_t {
  plain,   // of the answer
  scored,  // likewise, with log-probabilities
  prompt,  // of the prompt, with log-probabilities
};

/// Appends an entry for a token of the chosen row.
void encode_token(JournalToken kind, const stage::TokenResult& result, std::string& entries);

/// What was made of a row.
struct MadeTokens {
  std::vector<ScoredToken> prompt;  // of each prompt token but the first; empty: not asked for
  std::vector<ScoredToken> answer;
};

/// Of entries that encode_token() made. Throws std::logic_error for others.
MadeTokens decode_tokens(std::string_view entries);

/// Makes records.
class JournalRecords {
 public:
  /// The file's beginning, with its first record.
  void begin(const std::vector<JournalFact>& facts);
  void start(std::uint32_t number, const JournalKey& key);
  /// `entries`: encode_token()'s.
  void add(std::uint32_t number, std::string_view entries);

  bool empty() const { return bytes_.empty(); }
  /// Whole records, of all that came since the last call.
  std::string take();

 private:
  void open();
  void close();

  std::string bytes_;
  std::size_t begin_ = 0;  // of the open record, in bytes_
  std::uint64_t sum_ = 0;  // of the record before
  bool open_ = false;
};

/// A row of a journal.
struct JournalRow {
  JournalKey key;
  std::string entries;      // encode_token()'s
  std::int64_t tokens = 0;  // of the answer, among them
};

struct JournalContent {
  std::vector<JournalFact> facts;  // none: not even the first record is whole
  std::vector<JournalRow> rows;    // in the order of their starts; of two starts the later counts
  std::size_t bytes = 0;           // up to the end of the last whole record
};

/// Reads a journal as far as it is whole. Tokens outside [0, vocabulary) are damage, as checksums
/// of others are. Nothing: the bytes do not begin as a journal does.
std::optional<JournalContent> read_journal(std::string_view bytes, std::int32_t vocabulary);

}  // namespace sluice::launcher
