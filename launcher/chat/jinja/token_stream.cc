#include "launcher/chat/jinja/token_stream.h"

#include <fmt/format.h>

namespace sluice::launcher::jinja {
namespace {

/// Deeper than any published template; the parser and the tree's destructor recurse so deep.
constexpr int kMostLevels = 250;

}  // namespace

void TokenStream::expect_sign(std::string_view sign) {
  if (!skip_sign(sign)) fail_unexpected(fmt::format("'{}'", sign));
}

void TokenStream::expect(TokenKind kind, std::string_view wanted) {
  if (current().kind != kind) fail_unexpected(wanted);
  next();
}

std::string TokenStream::expect_name(std::string_view wanted) {
  if (current().kind != TokenKind::name) fail_unexpected(wanted);
  return next().text;
}

void TokenStream::fail_unexpected(std::string_view wanted) const {
  fail(fmt::format("expected {}, got {}", wanted, name_of(current())));
}

TokenStream::Level::Level(TokenStream& stream) : stream_(stream) {
  if (stream.depth_ >= kMostLevels) {
    stream.exceed(fmt::format("it is nested more than {} levels deep", kMostLevels));
  }
  ++stream.depth_;
}

}  // namespace sluice::launcher::jinja
