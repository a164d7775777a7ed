#pragma once

#include "lookm/files/gguf_header.h"

#include <string>
#include <vector>

namespace lookm {

// Doubts about a file, and what most rules need to find them.
class doubt_list {
  public:
    explicit doubt_list(const gguf_header & header) : file(header) {}

    const gguf_header & file;

    // One for each name: the first is the cause.
    void add(const std::string & name, const std::string & is, const std::string & expected);
    // A number that is there, and not from 1 to most.
    void check_count(const std::string & key, uint32_t most);
    void check_type(const std::string & key, gguf_type type);
    // An epsilon of a norm is small and more than nothing.
    void check_epsilon(const std::string & key);
    // A number must be what a tensor's shape says; of: as in "192, the length of
    // v.blk.0.ln1.weight".
    void check_equal(const std::string & key, int64_t right, const std::string & of);
    // Heads share the width evenly, unless head_length says otherwise.
    void check_heads(const std::string & width, const std::string & heads,
                     const std::string & head_length);

    const std::vector<std::string> & get() const { return list_; }

  private:
    bool names(const std::string & name) const;

    std::vector<std::string> names_, list_;
};

void doubt_tensors(doubt_list & doubts);   // any file's
void doubt_projector(doubt_list & doubts); // clip.*
void doubt_model(doubt_list & doubts);
void doubt_tokenizer(doubt_list & doubts);

std::string quoted(const std::string & text); // no more than its begin
// One or two letters differ.
bool nearly_same(const std::string & a, const std::string & b);
// How many blocks there are, by the highest number after "blk." or "v.blk."
uint32_t count_blocks(const gguf_header & file, const std::string & prefix);
// Whether a tensor of some block has a name that goes on so: "attn_q."
bool blocks_have(const gguf_header & file, const std::string & prefix, const std::string & start);

} // namespace lookm
