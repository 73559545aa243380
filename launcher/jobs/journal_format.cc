#include "launcher/jobs/journal_format.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "launcher/jobs/row_ids.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kMagic = "SLUICEJ1";
constexpr std::size_t kHeaderBytes = sizeof(std::uint32_t) + sizeof(std::uint64_t);
/// A record that is no shorter is closed. Entries of one call stay together, so it may be longer.
constexpr std::size_t kRecordBytes = std::size_t{256} << 10;

template <class Number>
void put(Number number, std::string& bytes) {
  static_assert(std::is_arithmetic_v<Number>);
  char raw[sizeof number];
  std::memcpy(raw, &number, sizeof number);
  bytes.append(raw, sizeof number);
}

void put_text(std::string_view text, std::string& bytes) {
  put(static_cast<std::uint32_t>(text.size()), bytes);
  bytes += text;
}

/// The bytes are none of ours.
struct Damage {};

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}
  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  template <class Number>
  Number number() {
    Number value;
    const std::string_view raw = text(sizeof value);
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::string_view text(std::size_t size) {
    if (size > rest_.size()) throw Damage();
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::string_view text() { return text(number<std::uint32_t>()); }

 private:
  std::string_view rest_;
};

char letter_of(JournalToken kind) {
  return kind == JournalToken::plain ? 't' : kind == JournalToken::scored ? 'l' : 'p';
}

/// The token behind its letter.
ScoredToken read_token(char letter, Cursor& cursor) {
  ScoredToken token;
  token.token = cursor.number<std::int32_t>();
  if (letter == 't') return token;
  token.logprob = cursor.number<float>();
  const auto count = cursor.number<std::uint8_t>();
  if (count > stage::kMaxLogprobs) throw Damage();
  for (int i = 0; i < count; ++i) {
    stage::Candidate& candidate = token.top.emplace_back();
    candidate.token = cursor.number<std::int32_t>();
    candidate.logprob = cursor.number<float>();
  }
  return token;
}

bool is_token(char letter) { return letter == 't' || letter == 'l' || letter == 'p'; }

class Reader {
 public:
  explicit Reader(std::int32_t vocabulary) : vocabulary_(vocabulary) {}

  void read(std::string_view bytes, JournalContent& content) {
    Cursor cursor(bytes);
    try {
      while (!cursor.at_end()) {
        const std::string_view payload = next_record(cursor);
        if (content.facts.empty()) {
          read_facts(payload, content.facts);
        } else {
          read_entries(payload);
        }
        content.bytes = kMagic.size() + bytes.size() - cursor.rest().size();
      }
    } catch (const Damage&) {
      // What was read before stays.
    }
    for (JournalRow& row : rows_) {
      if (latest_.at(row.key) == &row - rows_.data()) content.rows.push_back(std::move(row));
    }
  }

 private:
  std::string_view next_record(Cursor& cursor) {
    const auto size = cursor.number<std::uint32_t>();
    const auto sum = cursor.number<std::uint64_t>();
    const std::string_view payload = cursor.text(size);
    if (hash_of(payload, sum_) != sum) throw Damage();
    sum_ = sum;
    return payload;
  }

  static void read_facts(std::string_view payload, std::vector<JournalFact>& facts) {
    Cursor cursor(payload);
    std::vector<JournalFact> read;
    while (!cursor.at_end()) {
      JournalFact& fact = read.emplace_back();
      fact.name = cursor.text();
      fact.value = cursor.text();
    }
    facts = std::move(read);
    if (facts.empty()) throw Damage();
  }

  void read_entries(std::string_view payload) {
    Cursor cursor(payload);
    chosen_ = -1;  // records stand for themselves
    while (!cursor.at_end()) {
      const std::string_view before = cursor.rest();
      const char letter = cursor.number<char>();
      if (letter == 's') {
        start(cursor);
      } else if (letter == 'c') {
        const auto found = places_.find(cursor.number<std::uint32_t>());
        if (found == places_.end()) throw Damage();
        chosen_ = found->second;
      } else {
        if (!is_token(letter) || chosen_ < 0) throw Damage();
        check(read_token(letter, cursor));
        JournalRow& row = rows_[static_cast<std::size_t>(chosen_)];
        row.entries += before.substr(0, before.size() - cursor.rest().size());
        row.tokens += letter == 'p' ? 0 : 1;
      }
    }
  }

  void start(Cursor& cursor) {
    const auto number = cursor.number<std::uint32_t>();
    JournalKey key;
    key.name = cursor.number<std::uint64_t>();
    key.digest = cursor.number<std::uint64_t>();
    chosen_ = static_cast<std::ptrdiff_t>(rows_.size());
    if (!places_.emplace(number, chosen_).second) throw Damage();
    rows_.push_back({key, {}, 0});
    latest_[key] = chosen_;
  }

  void check(const ScoredToken& token) const {
    const auto is_known = [this](std::int32_t id) { return id >= 0 && id < vocabulary_; };
    const bool known =
        is_known(token.token) && std::ranges::all_of(token.top, [&](const auto& candidate) {
          return is_known(candidate.token);
        });
    if (!known) throw Damage();
  }

  std::int32_t vocabulary_;
  std::vector<JournalRow> rows_;
  std::unordered_map<std::uint32_t, std::ptrdiff_t> places_;  // by number, in rows_
  std::map<JournalKey, std::ptrdiff_t> latest_;
  std::ptrdiff_t chosen_ = -1;
  std::uint64_t sum_ = 0;  // of the record before
};

}  // namespace

void encode_token(JournalToken kind, const stage::TokenResult& result, std::string& entries) {
  entries.push_back(letter_of(kind));
  put(result.token, entries);
  if (kind == JournalToken::plain) return;
  put(result.logprob, entries);
  put(static_cast<std::uint8_t>(result.top.size()), entries);
  for (const stage::Candidate& candidate : result.top) {
    put(candidate.token, entries);
    put(candidate.logprob, entries);
  }
}

MadeTokens decode_tokens(std::string_view entries) {
  MadeTokens made;
  Cursor cursor(entries);
  try {
    while (!cursor.at_end()) {
      const char letter = cursor.number<char>();
      if (!is_token(letter)) throw Damage();
      (letter == 'p' ? made.prompt : made.answer).push_back(read_token(letter, cursor));
    }
  } catch (const Damage&) {
    throw std::logic_error("decode_tokens: no entries of encode_token()");
  }
  return made;
}

void JournalRecords::begin(const std::vector<JournalFact>& facts) {
  bytes_ = kMagic;
  open_ = false;
  sum_ = 0;
  open();
  for (const JournalFact& fact : facts) {
    put_text(fact.name, bytes_);
    put_text(fact.value, bytes_);
  }
  close();
}

void JournalRecords::start(std::uint32_t number, const JournalKey& key) {
  open();
  bytes_.push_back('s');
  put(number, bytes_);
  put(key.name, bytes_);
  put(key.digest, bytes_);
}

void JournalRecords::add(std::uint32_t number, std::string_view entries) {
  open();
  bytes_.push_back('c');
  put(number, bytes_);
  bytes_ += entries;
}

std::string JournalRecords::take() {
  close();
  return std::exchange(bytes_, {});
}

void JournalRecords::open() {
  if (open_ && bytes_.size() - begin_ >= kRecordBytes) close();
  if (open_) return;
  begin_ = bytes_.size();
  bytes_.append(kHeaderBytes, '\0');
  open_ = true;
}

void JournalRecords::close() {
  if (!std::exchange(open_, false)) return;
  const std::string_view payload = std::string_view(bytes_).substr(begin_ + kHeaderBytes);
  const auto size = static_cast<std::uint32_t>(payload.size());
  sum_ = hash_of(payload, sum_);
  std::memcpy(bytes_.data() + begin_, &size, sizeof size);
  std::memcpy(bytes_.data() + begin_ + sizeof size, &sum_, sizeof sum_);
}

std::optional<JournalContent> read_journal(std::string_view bytes, std::int32_t vocabulary) {
  JournalContent content;
  if (kMagic.starts_with(bytes)) return content;  // a beginning of a beginning
  if (!bytes.starts_with(kMagic)) return std::nullopt;
  content.bytes = kMagic.size();
  Reader(vocabulary).read(bytes.substr(kMagic.size()), content);
  return content;
}

}  // namespace sluice::launcher
