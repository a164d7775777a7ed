#pragma once

#include "lookm/host/memory_room.h"
#include "lookm/model/model.h"

namespace lookm {

// Compares what a model and a projector take ("": no projector) with the memory there is. All
// functions throw out_of_memory.
class memory_check {
  public:
    // Throws if there is hardly any memory at all.
    memory_check(const std::string & model_path, const std::string & mmproj_path);

    // Whether there is far more than files of this size take with a small cache.
    bool is_far_more() const;
    void has_room_for_plan() const; // a plan takes memory, too
    // What a planned context does not include.
    struct besides {
        bool encoder_is_here = true; // in host memory, not on a device
        bool weights_are_mapped = true;
        memory_need more;
    };
    // planned: a context without buffers, which says what it would take.
    void check(llama_context * planned, const besides & others) const;

  private:
    std::string what_;
    std::vector<std::string> parts_;
    uint64_t model_bytes_, encoder_bytes_, encoder_tables_;
};

// Throws out_of_memory if a session with these options does not fit. A plan says what it takes,
// before anything is allocated. Where memory is far larger than the files need, no plan is made.
void check_memory(const model_options & options);

} // namespace lookm
