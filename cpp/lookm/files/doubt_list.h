#pragma once

#include "lookm/files/gguf_header.h"

#include <string>
#include <vector>

namespace lookm {

// Collects doubts about a file: sentences that say which field or tensor cannot be right, what it
// is and what was expected. The check functions add one if their condition does not hold; a field
// that is missing or of another type is skipped.
class doubt_list {
  public:
    explicit doubt_list(const gguf_header & header) : file(header) {}

    const gguf_header & file;

    // Adds "name is ..., expected ...". Only the first for each name counts, as it is the cause.
    void add(const std::string & name, const std::string & is, const std::string & expected);
    // The number must be from 1 to most.
    void check_count(const std::string & key, uint32_t most);
    void check_type(const std::string & key, gguf_type type);
    // The epsilon of a norm must be more than 0 and less than 0.1.
    void check_epsilon(const std::string & key);
    // The number must be `right`. reason: why, as in "192, the length of v.blk.0.ln1.weight".
    void check_equal(const std::string & key, int64_t right, const std::string & reason);
    // The number of heads must divide the width, unless the file gives a head_length.
    void check_heads(const std::string & width, const std::string & heads,
                     const std::string & head_length);

    const std::vector<std::string> & get() const { return list_; }

  private:
    bool names(const std::string & name) const;

    std::vector<std::string> names_, list_;
};

void doubt_tensors(doubt_list & doubts);   // of any file
void doubt_projector(doubt_list & doubts); // clip.* keys, projector and encoder tensors
void doubt_model(doubt_list & doubts);
void doubt_tokenizer(doubt_list & doubts);

std::string quoted(const std::string & text); // long texts are cut off
// Whether only one or two letters differ.
bool nearly_same(const std::string & a, const std::string & b);
// The number of blocks, by the highest block number after the prefix "blk." or "v.blk."
uint32_t count_blocks(const gguf_header & file, const std::string & prefix);
// Whether any block has a tensor whose name continues like this after the number: "attn_q."
bool blocks_have(const gguf_header & file, const std::string & prefix, const std::string & start);

} // namespace lookm
