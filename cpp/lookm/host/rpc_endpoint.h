#pragma once

#include <memory>
#include <string>
#include <vector>

namespace lookm {

// ggml's RPC client aborts the process on an address it cannot use, and waits for ever on a server
// that is busy: every address is tried here first.

// A connection that ggml holds to a server, for as long as the caller keeps it. A server has one
// client: us.
using rpc_lease = std::shared_ptr<const std::string>;

// "host:port,host:port" -> the addresses, each shown to answer as an RPC server of our ggml's
// protocol and to serve no other client. One that this process holds a lease on already is not
// asked again: its connection is shared. Throws std::invalid_argument naming rpc_servers, the
// address, and what was expected; std::runtime_error in a process that was forked after its parent
// had connections.
std::vector<rpc_lease> lease_rpc_servers(const std::string & servers);

} // namespace lookm
