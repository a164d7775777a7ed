#include "lookm/session/fork_guard.h"

#include "lookm/host/at_work.h"
#include "lookm/host/devices.h"

#include <stdexcept>

namespace lookm {

fork_guard::fork_guard(const std::string & rpc_servers)
    : generation_(fork_generation()), is_on_devices_(lies_on_devices(rpc_servers)) {}

void fork_guard::check() const {
    check_forked_at_rest();
    if (is_on_devices_ && generation_ != fork_generation()) {
        throw std::runtime_error("this process was forked, and the model of its parent lies on a "
                                 "device or an RPC server that the parent goes on with" +
                                 std::string(instead_of_fork));
    }
}

bool fork_guard::may_be_freed() const {
    return generation_ == fork_generation() || (forked_at_rest() && !is_on_devices_);
}

} // namespace lookm
