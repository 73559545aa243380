// What rows get that do not say otherwise, from configuration and model.
#pragma once

#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/model/adapter_folder.h"
#include "launcher/model/model_folder.h"

namespace sluice::launcher {

/// The configuration's, and of generation_config.json what neither files nor flags say. Says in a
/// line on standard error what was taken, unless the run is quiet.
GenerationDefaults row_defaults(const RunConfig& config, const ModelFolder& model);

/// The model's first EOS id ends an answer by itself; the parser is told of further ones, and of
/// the adapters that rows may name.
ModelLimits limits_of(const ModelFolder& model, std::vector<KnownAdapter> adapters = {});

/// The run's adapters, as rows may name them.
std::vector<KnownAdapter> known_adapters(const OpenedAdapters& adapters);

/// What the configuration says of fields that are not ours.
UnknownFieldRule unknown_field_rule(const JobConfig& job);

}  // namespace sluice::launcher
