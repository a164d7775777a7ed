#pragma once

#include "lookm/cache/kv_cache.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lookm {

// The queries of one attention node: n in each of the streams [stream, stream + n_stream).
struct node_queries {
    int64_t n;
    int64_t stream, n_stream;
};

// Which of a prompt's tokens the queries of an attention node belong to, by counting: llama.cpp
// passes the tokens of a sequence in their order, once to each layer.
class query_count {
  public:
    void begin(std::span<const kv_layer> layers); // a prompt: no query has come

    // Counts the queries of a node of this layer, once all n_readers layers that read its cache
    // have processed them.
    void add(const node_queries & here, size_t layer, int n_readers);
    // Whether all of them come before the query `first` of the prompt.
    bool are_before(const node_queries & here, size_t layer, int64_t first) const;
    int64_t n_seen(size_t layer, int64_t stream) const { return n_seen_[layer][stream]; }
    bool has_seen(size_t layer) const;       // any query
    void set_seen(size_t layer);             // at least one, in each stream
    int64_t most_seen(int64_t stream) const; // by a layer; 0 before begin()

  private:
    std::vector<std::vector<int64_t>> n_seen_; // [layer][stream]: queries so far
    std::vector<int> n_read_; // [layer]: layers that have read its cache in this ubatch
};

} // namespace lookm
