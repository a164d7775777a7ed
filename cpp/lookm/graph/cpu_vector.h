#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

// A vector register of floats, using the vector extensions of GCC and Clang; a single float for
// other compilers. Its width depends on the compiler flags of the including file, so everything
// here has internal linkage, and only cpu_*.cpp include it.
namespace lookm::simd {

#if !defined(__GNUC__)
constexpr int64_t n_lanes = 1;
constexpr int64_t n_rows_at_once = 3;
#elif defined(__AVX512F__)
constexpr int64_t n_lanes = 16;
constexpr int64_t n_rows_at_once = 12; // 12 sums in 32 registers
#elif defined(__AVX__)
constexpr int64_t n_lanes = 8;
constexpr int64_t n_rows_at_once = 6; // 12 sums in 16 registers
#elif defined(__aarch64__)
constexpr int64_t n_lanes = 4;
constexpr int64_t n_rows_at_once = 6; // 24 sums in 32 registers
#else
constexpr int64_t n_lanes = 4;
constexpr int64_t n_rows_at_once = 3; // 12 sums in 16 registers
#endif

#if defined(__GNUC__)
typedef float floats __attribute__((vector_size(n_lanes * 4)));
typedef int32_t ints __attribute__((vector_size(n_lanes * 4)));
#else
using floats = float;
using ints = int32_t;
#endif

static inline floats load(const float * x) {
    floats v;
    std::memcpy(&v, x, sizeof(v));
    return v;
}

static inline ints load(const int32_t * x) {
    ints v;
    std::memcpy(&v, x, sizeof(v));
    return v;
}

// n_lanes bytes as integers, in two steps, as GCC 12 has no instruction for one
static inline ints load(const uint8_t * x) {
#if defined(__GNUC__)
    typedef uint8_t bytes __attribute__((vector_size(n_lanes)));
    typedef uint16_t shorts __attribute__((vector_size(n_lanes * 2)));
    bytes v;
    std::memcpy(&v, x, sizeof(v));
    return __builtin_convertvector(__builtin_convertvector(v, shorts), ints);
#else
    return *x;
#endif
}

static inline floats to_floats(ints x) {
#if defined(__GNUC__)
    return __builtin_convertvector(x, floats);
#else
    return static_cast<float>(x);
#endif
}

static inline void store(float * x, floats v) {
    std::memcpy(x, &v, sizeof(v));
}

static inline void store(int32_t * x, ints v) {
    std::memcpy(x, &v, sizeof(v));
}

static inline floats splat(float x) {
    return x - floats{}; // x - 0 is x, even for -0; compiles to one broadcast
}

// All bits of a lane are 1 where a > b, else 0
static inline ints greater(floats a, floats b) {
#if defined(__GNUC__)
    return a > b;
#else
    return -static_cast<ints>(a > b);
#endif
}

static inline ints select(ints where, ints a, ints b) {
    return (where & a) | (~where & b);
}

static inline floats select(ints where, floats a, floats b) {
    return std::bit_cast<floats>(select(where, std::bit_cast<ints>(a), std::bit_cast<ints>(b)));
}

static inline floats larger(floats a, floats b) {
    return a > b ? a : b;
}

#if defined(__GNUC__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LOOKM_SHUFFLES
#endif
#endif

#ifdef LOOKM_SHUFFLES
constexpr std::make_integer_sequence<int, n_lanes> lanes;

// a0 b0 a1 b1 ...: mix_low of the first halves of a and b, mix_high of the second halves
template <int... I>
static inline floats mix_low(floats a, floats b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I % 2 * n_lanes + I / 2)...);
}

template <int... I>
static inline floats mix_high(floats a, floats b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I % 2 * n_lanes + I / 2 + n_lanes / 2)...);
}

// out[e * out_stride + r] = rows[r * stride + e] for e, r < n_lanes. Interleaving the two halves of
// the rows log2(n_lanes) times transposes a square.
static inline void transpose_square(const float * rows, int64_t stride, float * out,
                                    int64_t out_stride) {
    floats x[n_lanes], y[n_lanes];
    for (int64_t r = 0; r < n_lanes; ++r) {
        x[r] = load(rows + r * stride);
    }
    for (int64_t n = 1; n < n_lanes; n *= 2) {
        for (int64_t r = 0; r < n_lanes / 2; ++r) {
            y[2 * r] = mix_low(x[r], x[r + n_lanes / 2], lanes);
            y[2 * r + 1] = mix_high(x[r], x[r + n_lanes / 2], lanes);
        }
        std::memcpy(x, y, sizeof(x));
    }
    for (int64_t e = 0; e < n_lanes; ++e) {
        store(out + e * out_stride, x[e]);
    }
}
#endif

// out[e * out_stride + r] = rows[r * stride + e] for r < n_lanes, e < n
static inline void transpose(const float * rows, int64_t stride, int64_t n, float * out,
                             int64_t out_stride) {
#ifdef LOOKM_SHUFFLES
    for (int64_t e = 0; e < n; e += n_lanes) {
        transpose_square(rows + e, stride, out + e * out_stride, out_stride);
    }
#else
    for (int64_t r = 0; r < n_lanes; ++r) {
        for (int64_t e = 0; e < n; ++e) {
            out[e * out_stride + r] = rows[r * stride + e];
        }
    }
#endif
}

// exp(x) = power * (1 + rest) for -87 <= x <= 88: a power of two, and exp(r) - 1 for
// |r| <= ln(2) / 2
struct exp_parts {
    floats power, rest;
};

static inline exp_parts exp_of(floats x) {
    // adding this number rounds to an integer, which is then in the low bits
    const floats magic = splat(0x1.8p23f);
    const floats shifted = x * splat(1.44269504088896341f) + magic;
    const floats n = shifted - magic;
    // ln(2) in two parts; the product with the first is exact
    const floats r = x - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
    floats p = splat(1.9875691500e-4f); // the polynomial of Cephes' expf, to 2^-25
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = p * (r * r) + r;
    return {std::bit_cast<floats>((std::bit_cast<ints>(shifted) << 23) + 0x3f800000), p};
}

// exp(x) for x <= 88; 0 for x < -87, including -inf
static inline floats exp(floats x) {
    const floats least = splat(-87.0f);
    const exp_parts e = exp_of(larger(x, least));
    return select(greater(least, x), floats{}, e.power * e.rest + e.power);
}

// 2^(x - shift) for a shift of a whole number, 0 for x - shift < -126, including -inf; x - shift
// <= 126 and |x| < 2^22. Another shift multiplies the result by a power of two, without rounding.
static inline floats exp2(floats x, floats shift) {
    const floats magic = splat(0x1.8p23f); // as above
    const floats least = shift - splat(126.0f);
    const floats some = larger(x, least);
    const floats shifted = some + magic;
    const floats r = some - (shifted - magic);
    floats p = splat(1.535336188e-4f); // the polynomial of Cephes' exp2f, to 2^-25
    p = p * r + splat(1.339887440e-3f);
    p = p * r + splat(9.618437358e-3f);
    p = p * r + splat(5.550332471e-2f);
    p = p * r + splat(2.402264791e-1f);
    p = p * r + splat(6.931472028e-1f);
    p = p * r + splat(1.0f);
    const ints whole = std::bit_cast<ints>(shifted) - std::bit_cast<ints>(shift + magic);
    const floats power = std::bit_cast<floats>((whole << 23) + 0x3f800000);
    return select(greater(least, x), floats{}, power * p);
}

// (e - 1) / (e + 1) with e = exp(2 |x|) and the sign of x
static inline floats tanh(floats x) {
    const ints sign = std::bit_cast<ints>(x) & INT32_MIN;
    const floats size = std::bit_cast<floats>(std::bit_cast<ints>(x) ^ sign);
    const exp_parts e = exp_of(splat(-1.0f) * larger(splat(-20.0f), splat(-2.0f) * size));
    const floats less_one = e.power * e.rest + (e.power - splat(1.0f));
    return std::bit_cast<floats>(std::bit_cast<ints>(less_one / (less_one + splat(2.0f))) | sign);
}

} // namespace lookm::simd
