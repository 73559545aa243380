// Functions of the driver that the engine asks for by name.
#pragma once

#include <cuda.h>

namespace sluice::emulated {

CUresult wait_value(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags);
CUresult write_value(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags);

/// The driver's function of that name about modules, or null.
void* module_function(const char* name);

}  // namespace sluice::emulated
