#pragma once

#include "lookm/host/log.h"

#include <log.h> // llama.cpp's, not lookm/host/log.h

namespace lookm {

// Silences the separate log of llama.cpp's common code, which goes to stderr.
class quiet_scope {
  public:
    quiet_scope() : threshold_(common_log_get_verbosity_thold()) {
        if (!is_verbose()) {
            common_log_set_verbosity_thold(-1);
        }
    }
    ~quiet_scope() { common_log_set_verbosity_thold(threshold_); }
    quiet_scope(const quiet_scope &) = delete;
    quiet_scope & operator=(const quiet_scope &) = delete;

  private:
    int threshold_;
};

} // namespace lookm
