#include "stage/mixture.h"

namespace sluice::stage {

namespace {

using kernels::Activation;

/// Positions of a gated MLP's tensors in its group. Biases may be absent there.
struct GatedMlp {
  std::size_t gate;
  std::size_t up;
  std::size_t down;
  std::size_t gate_bias;
  std::size_t up_bias;
  std::size_t down_bias;
};

GatedMlp expert_mlp(std::int32_t expert) {
  const std::size_t first = expert_tensors(expert);
  return {first + kExpertGate,     first + kExpertUp,     first + kExpertDown,
          first + kExpertGateBias, first + kExpertUpBias, first + kExpertDownBias};
}

/// It never has biases; those of the MLP are absent beside experts.
constexpr GatedMlp kSharedMlp{kSharedGate, kSharedUp, kSharedDown, kGateBias, kUpBias, kDownBias};

struct Mixture {
  kernels::Ops& ops;
  const DecoderConfig& model;
  const GroupWeights& weights;
  const MixtureWorkspace& workspace;
  TensorView mlp;
};

/// result = down(activation(gate(in)) * up(in)).
TensorView compute(const Mixture& mixture, const GatedMlp& part, TensorView in) {
  kernels::Ops& ops = mixture.ops;
  const GroupWeights& weights = mixture.weights;
  const SplitMatrix& gate = weights.matrix(part.gate);
  const TensorView inner{mixture.mlp.data, mixture.mlp.dtype, in.rows, gate.rows()};
  const TensorView result = mixture.workspace.result.slice(0, in.rows);
  ops.linear(inner, in, gate, weights.vector(part.gate_bias), mixture.model.mlp.activation, {});
  ops.linear_times(inner, in, weights.matrix(part.up), weights.vector(part.up_bias), inner);
  ops.linear(result, inner, weights.matrix(part.down), weights.vector(part.down_bias),
             Activation::none, {});
  return result;
}

/// Chooses the experts of all rows, and waits for how many rows each has.
void route(const Mixture& mixture, TensorView in) {
  const MixtureWorkspace& workspace = mixture.workspace;
  const MixtureTraits& traits = mixture.model.mixture;
  const TensorView logits = workspace.logits.slice(0, in.rows);
  mixture.ops.linear(logits, in, mixture.weights.matrix(kRouterWeight),
                     mixture.weights.vector(kRouterBias), Activation::none, {});
  mixture.ops.route(workspace.routed, logits, mixture.weights.vector(kCorrection), traits.router);
  Backend& backend = *workspace.backend;
  backend.copy(Lane::compute, workspace.host_counts, workspace.routed.counts,
               static_cast<std::size_t>(traits.experts) * sizeof(std::int32_t));
  backend.synchronize(backend.record(Lane::compute));
}

void add_shared(const Mixture& mixture, TensorView sum, TensorView in) {
  const TensorView result = compute(mixture, kSharedMlp, in);
  kernels::RowFactors where;
  if (mixture.model.mixture.shared_switch) {
    const TensorView switches = mixture.workspace.switches.slice(0, in.rows);
    mixture.ops.linear(switches, in, mixture.weights.matrix(kSharedSwitch), {}, Activation::none,
                       {});
    where.factors = static_cast<const float*>(switches.data);
    where.sigmoids = true;
  }
  mixture.ops.add_rows(sum, result, where);
}

}  // namespace

TensorView mix_experts(kernels::Ops& ops, const DecoderConfig& model, const GroupWeights& weights,
                       const MixtureWorkspace& workspace, TensorView mlp, TensorView in) {
  const Mixture mixture{ops, model, weights, workspace, mlp};
  const TensorView sum = workspace.sum.slice(0, in.rows);
  route(mixture, in);
  ops.clear(sum);
  std::int64_t first = 0;
  for (std::int32_t expert = 0; expert < model.mixture.experts; ++expert) {
    const std::int64_t rows = workspace.host_counts[expert];
    if (rows == 0) continue;
    const TensorView gathered = workspace.gathered.slice(0, rows);
    ops.select_rows(gathered, in, workspace.routed.rows + first);
    ops.add_rows(sum, compute(mixture, expert_mlp(expert), gathered),
                 {workspace.routed.rows + first, workspace.routed.weights + first});
    first += rows;
  }
  if (model.mixture.shared_width > 0) add_shared(mixture, sum, in);
  return sum;
}

}  // namespace sluice::stage
