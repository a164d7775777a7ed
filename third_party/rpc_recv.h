#pragma once

// Seconds for which ggml's RPC client waits for a server's next bytes before it takes it for gone; 0: without end.
void lookm_rpc_wait_at_most(int seconds);
