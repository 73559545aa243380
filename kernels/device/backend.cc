#include "kernels/device/backend.h"

namespace sluice {

const char* name_of(Lane lane) {
  switch (lane) {
    case Lane::compute:
      return "compute";
    case Lane::host_to_device:
      return "host to device";
    case Lane::device_to_host:
      return "device to host";
    case Lane::host_compute:
      return "host compute";
  }
  return "?";
}

}  // namespace sluice
