#pragma once

// Sets how many seconds ggml's RPC client waits for the next bytes of a server before it counts the
// server as lost; 0: forever.
void lookm_rpc_wait_at_most(int seconds);
