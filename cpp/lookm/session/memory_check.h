#pragma once

#include "lookm/host/memory_room.h"
#include "lookm/model/model.h"

namespace lookm {

// Memory that a model and a projector take ("": none), held against what there is. All throw
// out_of_memory.
class memory_check {
  public:
    memory_check(const std::string & model_path,
                 const std::string & mmproj_path); // and whether there is any at all

    bool is_far_more() const;       // than files of this size take with a small cache
    void has_room_for_plan() const; // which takes memory itself
    // What a planned context does not say.
    struct besides {
        bool encoder_is_here = true; // and not on a device
        bool weights_are_mapped = true;
        memory_need more;
    };
    // planned: a context without memory, which says what it would take.
    void check(llama_context * planned, const besides & others) const;

  private:
    std::string what_;
    std::vector<std::string> parts_;
    uint64_t model_bytes_, encoder_bytes_, encoder_tables_;
};

// Throws out_of_memory if a session of these options does not fit into memory. What it takes is
// what a plan says of it, before anything is allocated; where there is far more than files of this
// size take, no plan is made.
void check_memory(const model_options & options);

} // namespace lookm
