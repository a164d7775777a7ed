#pragma once

#include <string>

namespace lookm {

// Whether this process may go on with what its parent made before a fork.
class fork_guard {
  public:
    explicit fork_guard(const std::string & rpc_servers); // where the model may lie

    // Throws std::runtime_error in a forked child that cannot go on: one that was forked while
    // another thread was at work, or any whose model lies on a device or server, which the parent
    // goes on with.
    void check() const;
    bool may_be_freed() const; // in this process

  private:
    int generation_; // of the process that made it
    bool is_on_devices_;
};

} // namespace lookm
