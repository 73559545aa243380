#include "launcher/planner/task_activity.h"

namespace sluice::launcher {

using stage::Resource;
using stage::TaskKind;

Activity activity_of(Resource resource, bool writes) {
  switch (resource) {
    case Resource::disk:
      return writes ? Activity::disk_write : Activity::disk_read;
    case Resource::host_to_device:
      return Activity::host_to_device;
    case Resource::device_to_host:
      return Activity::device_to_host;
    case Resource::host_compute:
      return Activity::host_compute;
    case Resource::send:
      return Activity::send;
    default:
      return Activity::compute;
  }
}

Activity stall_of(TaskKind kind) {
  switch (kind) {
    case TaskKind::read_weights:
    case TaskKind::load_weights:
      return Activity::stall_weights;
    case TaskKind::read_cache:
    case TaskKind::fetch_cache:
    case TaskKind::append_cache:
    case TaskKind::write_cache:
      return Activity::stall_kv;
    case TaskKind::read_hidden:
    case TaskKind::fetch_hidden:
    case TaskKind::write_hidden:
      return Activity::stall_activations;
    case TaskKind::lend_rows:
    case TaskKind::attend_on_host:
      return Activity::stall_host_compute;
    case TaskKind::receive:
    case TaskKind::send:
      return Activity::stall_message;
    case TaskKind::store_hidden:
    case TaskKind::store_cache:
    case TaskKind::stage_hidden:
    case TaskKind::take_results:
    case TaskKind::sample:
      return Activity::stall_results;
    default:
      return Activity::stall_other;
  }
}

}  // namespace sluice::launcher
