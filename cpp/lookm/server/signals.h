#pragma once

namespace lookm::server {

// Installs llama-server's handler, which stops its task queue. The thread that a signal interrupts
// may hold the queue's lock, for which the handler would wait for ever: so a thread of ours calls
// it. llama-server then waits for clients whose answers never come, as the queue has stopped; what
// has not ended two seconds later is cut off, and the process exits with 0. A second signal ends it
// at once.
void handle_aside(int signal, void (*handler)(int));

} // namespace lookm::server
