#pragma once

#include <memory>
#include <string>
#include <vector>

namespace lookm {

// ggml's RPC client aborts the process on an address that it cannot use, and waits forever for a
// busy server. So every address is tried here first.

// Keeps a connection of ggml to a server reserved as long as the caller holds it. A server serves
// one client at a time.
using rpc_lease = std::shared_ptr<const std::string>;

// Checks each address of "host:port,host:port,..." and returns them in this order: each answers as
// an RPC server with this ggml's protocol version and serves no other client. An address that this
// process holds a lease on is not checked again, as its connection is shared. Throws bad_argument
// "rpc_servers" with the address and what was expected, and std::runtime_error in a process that
// was forked after its parent had connections.
std::vector<rpc_lease> lease_rpc_servers(const std::string & servers);

} // namespace lookm
