#pragma once

#include <cstdint>
#include <string_view>

namespace lookm {

// Where a text in UTF-8 stands that comes in pieces: between two characters or within one.
class utf8_tail {
  public:
    // Whether the text is still UTF-8 with these bytes behind it; if so, it has them from now on.
    bool add(std::string_view bytes);
    bool is_whole() const { return n_left_ == 0; } // no character has begun and not ended

  private:
    bool add(uint8_t byte);

    int n_left_ = 0;                     // bytes of the last character that are to come
    uint8_t least_ = 0x80, most_ = 0xbf; // the next of them
};

} // namespace lookm
