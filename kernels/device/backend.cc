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
    case Lane::send:
      return "send";
    case Lane::receive:
      return "receive";
  }
  return "?";
}

Activity activity_of(Lane lane) {
  switch (lane) {
    case Lane::host_to_device:
      return Activity::host_to_device;
    case Lane::device_to_host:
      return Activity::device_to_host;
    case Lane::host_compute:
      return Activity::host_compute;
    case Lane::send:
      return Activity::send;
    case Lane::receive:
      return Activity::receive;
    case Lane::compute:
      break;
  }
  return Activity::compute;
}

}  // namespace sluice
