// That two runs of a ListJob gave the same answers, bit for bit.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <vector>

#include "tests/support/list_job.h"

namespace sluice::support {

inline void expect_same(const std::vector<ListJob::Result>& got,
                        const std::vector<ListJob::Result>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].token, wanted[i].token) << i;
    ASSERT_EQ(got[i].logprob, wanted[i].logprob) << i;
    ASSERT_EQ(got[i].top.size(), wanted[i].top.size()) << i;
    for (std::size_t k = 0; k < got[i].top.size(); ++k) {
      ASSERT_EQ(got[i].top[k].token, wanted[i].top[k].token) << i << " " << k;
      ASSERT_EQ(got[i].top[k].logprob, wanted[i].top[k].logprob) << i << " " << k;
    }
  }
}

/// Of all requests: tokens, log-probabilities of answer and prompt, embeddings, and failures.
inline void expect_same(const std::map<std::uint64_t, ListJob::Answer>& got,
                        const std::map<std::uint64_t, ListJob::Answer>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [id, expected] : wanted) {
    SCOPED_TRACE(id);
    const ListJob::Answer& answer = got.at(id);
    EXPECT_EQ(answer.failure, expected.failure);
    ASSERT_EQ(answer.tokens, expected.tokens);
    expect_same(answer.results, expected.results);
    expect_same(answer.prompt_results, expected.prompt_results);
    ASSERT_EQ(answer.embedding, expected.embedding);
  }
}

}  // namespace sluice::support
