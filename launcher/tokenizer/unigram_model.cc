#include "launcher/tokenizer/unigram_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernels/device/error.h"
#include "launcher/tokenizer/utf8.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

constexpr double kUnknownPenalty = 10.0;

}  // namespace

UnigramModel::UnigramModel(const Vocabulary& vocabulary)
    : scores_(vocabulary.scores), unknown_(vocabulary.unknown) {
  for (const auto& [text, id] : vocabulary.ids) {
    if (!vocabulary.only_added.contains(id)) add(text, id);
  }
  byte_tokens_.fill(-1);
  for (std::size_t byte = 0; vocabulary.byte_fallback && byte < 256; ++byte) {
    byte_tokens_[byte] = find(fmt::format("<0x{:02X}>", byte));
  }
  const auto least = std::ranges::min_element(scores_);
  unknown_score_ = (least == scores_.end() ? 0.0 : *least) - kUnknownPenalty;
}

void UnigramModel::add(std::string_view text, std::int32_t id) {
  std::uint64_t node = 0;
  for (const char byte : text) {
    std::uint64_t next = child(node, byte);
    if (next == 0) {
      next = token_.size();
      token_.push_back(-1);
      children_.put(node << 8 | static_cast<unsigned char>(byte), next);
    }
    node = next;
  }
  if (node != 0) token_[node] = id;
}

std::uint64_t UnigramModel::child(std::uint64_t node, char byte) const {
  const std::uint64_t* found = children_.find(node << 8 | static_cast<unsigned char>(byte));
  return found == nullptr ? 0 : *found;
}

std::int32_t UnigramModel::find(std::string_view text) const {
  std::uint64_t node = 0;
  for (const char byte : text) {
    node = child(node, byte);
    if (node == 0) return -1;
  }
  return token_[node];
}

/// Goes on from `begin` by every token that the text has there, or else by an unknown character.
void UnigramModel::leave(std::string_view piece, std::size_t begin,
                         std::vector<Arrival>& ways) const {
  const double score = ways[begin].score;
  const auto arrive = [&](std::size_t end, double total, std::int32_t id) {
    Arrival& way = ways[end];
    if (way.begin >= 0 && total <= way.score) return;
    way = {total, static_cast<std::int64_t>(begin), id};
  };
  const std::size_t character = begin + first_part(piece.substr(begin)).bytes;
  bool known = false;
  std::uint64_t node = 0;
  for (std::size_t end = begin + 1; end <= piece.size(); ++end) {
    node = child(node, piece[end - 1]);
    if (node == 0) break;
    const std::int32_t id = token_[node];
    if (id < 0) continue;
    arrive(end, scores_[static_cast<std::size_t>(id)] + score, id);
    known = known || end == character;
  }
  if (known) return;
  if (unknown_ < 0) {
    throw InputError(
        fmt::format("the text has the character \"{}\", but the tokenizer has neither a token for "
                    "it nor an unknown token (model.unk_id)",
                    piece.substr(begin, character - begin)));
  }
  arrive(character, unknown_score_ + score, unknown_);
}

std::vector<UnigramModel::Arrival> UnigramModel::best_ways(std::string_view piece) const {
  std::vector<Arrival> ways(piece.size() + 1);
  for (std::size_t at = 0; at < piece.size(); at += first_part(piece.substr(at)).bytes) {
    leave(piece, at, ways);
  }
  return ways;
}

/// Neighbouring unknown characters are one unknown token, or else bytes.
void UnigramModel::append_unknown(std::string_view text, std::vector<std::int32_t>& ids) const {
  const auto byte_token = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (const std::int32_t id = find(text); id >= 0) {
    ids.push_back(id);
  } else if (std::ranges::all_of(text, [&](char byte) { return byte_token(byte) >= 0; })) {
    for (const char byte : text) ids.push_back(byte_token(byte));
  } else {
    ids.push_back(unknown_);
  }
}

void UnigramModel::append_tokens(std::string_view piece, Workspace& workspace,
                                 std::vector<std::int32_t>& ids) const {
  const std::span<const std::int32_t> known = workspace.words.find(piece);
  if (!known.empty()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  const std::vector<Arrival> ways = best_ways(piece);
  std::vector<std::size_t> ends;
  for (std::size_t end = piece.size(); end > 0; end = static_cast<std::size_t>(ways[end].begin)) {
    ends.push_back(end);
  }
  const std::size_t first = ids.size();
  std::size_t begin = 0;
  for (std::size_t i = ends.size(); i-- > 0;) {
    const std::int32_t id = ways[ends[i]].id;
    if (id != unknown_) {
      ids.push_back(id);
      begin = ends[i];
    } else if (i == 0 || ways[ends[i - 1]].id != unknown_) {
      append_unknown(piece.substr(begin, ends[i] - begin), ids);
      begin = ends[i];
    }
  }
  workspace.words.add(piece, std::span(ids).subspan(first));
}

}  // namespace sluice::launcher
