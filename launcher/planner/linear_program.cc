#include "launcher/planner/linear_program.h"

#include <coin/Clp_C_Interface.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace sluice::launcher {

namespace {

struct ModelDeleter {
  void operator()(Clp_Simplex* model) const { Clp_deleteModel(model); }
};

double bound(double value) { return std::clamp(value, -1e30, 1e30); }  // Clp's infinity is above it

}  // namespace

std::size_t LinearProgram::add_variable(double cost, double most) {
  costs_.push_back(cost);
  most_.push_back(most);
  return costs_.size() - 1;
}

void LinearProgram::add_limit(std::vector<Term> terms, double lowest, double highest) {
  limits_.push_back({std::move(terms), lowest, highest});
}

std::optional<std::vector<double>> LinearProgram::solve() const {
  const std::unique_ptr<Clp_Simplex, ModelDeleter> model(Clp_newModel());
  Clp_setLogLevel(model.get(), 0);
  Clp_resize(model.get(), 0, static_cast<int>(costs_.size()));
  for (std::size_t i = 0; i < costs_.size(); ++i) {
    Clp_columnLower(model.get())[i] = 0;
    Clp_columnUpper(model.get())[i] = bound(most_[i]);
    Clp_objective(model.get())[i] = costs_[i];
  }
  std::vector<CoinBigIndex> starts = {0};
  std::vector<int> columns;
  std::vector<double> factors, lowest, highest;
  for (const Limit& limit : limits_) {
    // Rows of bytes and rows of seconds must not differ by orders of magnitude.
    double largest = 0;
    for (const Term& term : limit.terms) largest = std::max(largest, std::abs(term.factor));
    const double scale = largest > 0 ? 1 / largest : 1;
    for (const Term& term : limit.terms) {
      columns.push_back(static_cast<int>(term.variable));
      factors.push_back(term.factor * scale);
    }
    starts.push_back(static_cast<CoinBigIndex>(columns.size()));
    lowest.push_back(bound(limit.lowest * scale));
    highest.push_back(bound(limit.highest * scale));
  }
  Clp_addRows(model.get(), static_cast<int>(limits_.size()), lowest.data(), highest.data(),
              starts.data(), columns.data(), factors.data());
  Clp_dual(model.get(), 0);
  if (Clp_status(model.get()) != 0) return std::nullopt;
  const double* const values = Clp_primalColumnSolution(model.get());
  return std::vector<double>(values, values + costs_.size());
}

}  // namespace sluice::launcher
