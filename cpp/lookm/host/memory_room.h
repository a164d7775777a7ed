#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lookm {

// How many more bytes this process may use under some limit. By default there is no limit.
struct memory_room {
    uint64_t bytes = UINT64_MAX;
    std::string limit; // what the limit is, as the end of the sentence "N MiB are left of ..."

    void take_less(const memory_room & other) {
        if (other.bytes < bytes) {
            *this = other;
        }
    }
};

// Address space left under ulimit -v. Everything that is mapped counts, even files.
memory_room address_room();
// Private pages left under ulimit -d, whether they are used or not.
memory_room data_room();
// Memory that this process could still use: the smaller of what the cgroup's limit (version 1 or 2)
// leaves and what the machine has. Pages that only cache files count as free. root: a prefix of
// every path that is read, for tests.
memory_room unused_memory(const std::string & root = "");

// Address space that this process uses, in bytes; 0 if the system does not say.
uint64_t addresses_in_use();

// What something needs, in bytes.
struct memory_need {
    uint64_t taken = 0;    // memory
    uint64_t mapped = 0;   // mapped files, which take address space only
    uint64_t reserved = 0; // reserved but never used, which takes no memory
};

// Bytes that ggml reserves for the tables of a graph of n_nodes, far more than a graph uses.
uint64_t graph_tables(uint64_t n_nodes);

// Throws out_of_memory if `what` needs more than there is. llama.cpp and ggml end the process if a
// small allocation fails, so 64 MiB must be left in addition. what: subject of the message.
void check_room(const std::string & what, const memory_need & need = {});

// Whether there is room for this many bytes, by the same rule.
bool has_room(uint64_t bytes);

} // namespace lookm
