#pragma once

namespace lookm::server {

// Installs llama-server's handler for a signal, to be called in a thread of ours: it takes the lock
// of the task queue, which the interrupted thread may hold. The handler stops the queue, and
// llama-server then waits for clients whose answers never come, so after two more seconds the
// process exits with code 0. A second signal ends it at once.
void handle_aside(int signal, void (*handler)(int));

} // namespace lookm::server
