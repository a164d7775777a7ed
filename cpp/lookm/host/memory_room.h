#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lookm {

// How much more something lets this process have, and what that is.
struct memory_room {
    uint64_t bytes = UINT64_MAX;
    std::string limit; // as in "are left of ..."

    void take_less(const memory_room & other) {
        if (other.bytes < bytes) {
            *this = other;
        }
    }
};

// Addresses, by ulimit -v; everything that is mapped counts, files too. No limit: all there are.
memory_room address_room();
// Private pages, used or not, by ulimit -d.
memory_room data_room();
// Memory that nobody but us could use: by the cgroup's limit (version 1 or 2) and what the machine
// has. Pages that only cache files count as free. root: in front of every path that is read, for
// tests.
memory_room unused_memory(const std::string & root = "");

uint64_t addresses_in_use(); // bytes, 0 where the system does not say

// What something takes, in bytes.
struct memory_need {
    uint64_t taken = 0;
    uint64_t mapped = 0;   // of files: only addresses
    uint64_t reserved = 0; // and never used: no memory
};

// Tables that ggml reserves for a graph, far more of them than a graph needs.
uint64_t graph_tables(uint64_t n_nodes);

// Throws out_of_memory if something takes more than there is. llama.cpp and ggml end the process
// where they do not get small pieces of memory, so there must be some to spare, too.
void check_room(const std::string & what, const memory_need & need = {});

} // namespace lookm
