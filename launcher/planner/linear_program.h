// A linear program, solved by Clp. The only file of sluice that knows Clp is linear_program.cc.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

namespace sluice::launcher {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

/// Minimises a sum over variables >= 0 under limits on sums.
class LinearProgram {
 public:
  struct Term {
    std::size_t variable = 0;
    double factor = 0;
  };

  /// Returns its number. `cost`: what one of it adds to the sum; `most`: its upper bound.
  std::size_t add_variable(double cost, double most = kUnbounded);
  /// lowest <= sum of the terms <= highest. Terms of one variable must not be repeated.
  void add_limit(std::vector<Term> terms, double lowest, double highest);

  /// Values of the variables; empty: no values meet all limits.
  std::optional<std::vector<double>> solve() const;

 private:
  struct Limit {
    std::vector<Term> terms;
    double lowest;
    double highest;
  };
  std::vector<double> costs_;
  std::vector<double> most_;
  std::vector<Limit> limits_;
};

}  // namespace sluice::launcher
