#include "lookm/session/utf8_tail.h"

namespace lookm {

bool utf8_tail::add(std::string_view bytes) {
    utf8_tail then = *this;
    for (const char byte : bytes) {
        if (!then.add(static_cast<uint8_t>(byte))) {
            return false;
        }
    }
    *this = then;
    return true;
}

// Table 3-7 of the Unicode standard: overlong forms, surrogates and what lies beyond U+10FFFF are
// excluded by the range of the second byte.
bool utf8_tail::add(uint8_t byte) {
    if (n_left_ > 0) {
        if (byte < least_ || byte > most_) {
            return false;
        }
        --n_left_;
        least_ = 0x80;
        most_ = 0xbf;
        return true;
    }
    if (byte < 0x80) {
        return true;
    }
    if (byte < 0xc2 || byte > 0xf4) {
        return false;
    }
    n_left_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    least_ = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
    most_ = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
    return true;
}

} // namespace lookm
