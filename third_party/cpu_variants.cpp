// Calls of ggml's CPU backend and of our kernels go to the variant that is best for this CPU
// (cpu_variants.cmake). LOOKM_CPU names another one that the CPU can run, for tests.

#include "lookm/graph/cpu_tiles.h"

#include "ggml-cpu.h"

#include <cstdlib>
#include <string_view>

extern "C" {
#define LOOKM_VARIANT(name)                                                                        \
    int ggml_backend_score_##name(void);                                                           \
    ggml_backend_reg_t ggml_backend_cpu_reg_##name(void);                                          \
    void ggml_cpu_fp16_to_fp32_##name(const ggml_fp16_t *, float *, int64_t);                      \
    void ggml_cpu_fp32_to_fp16_##name(const float *, ggml_fp16_t *, int64_t);                      \
    void ggml_cpu_bf16_to_fp32_##name(const ggml_bf16_t *, float *, int64_t);                      \
    const ggml_type_traits_cpu * ggml_get_type_traits_cpu_##name(ggml_type);                       \
    const lookm::cpu_products & lookm_products_##name(void);                                       \
    const lookm::cpu_tiles & lookm_tiles_##name(void);
LOOKM_CPU_VARIANTS
#undef LOOKM_VARIANT
}

namespace {

struct variant {
    std::string_view name;
    int (*score)(void);
    decltype(&ggml_backend_cpu_reg) reg;
    decltype(&ggml_cpu_fp16_to_fp32) fp16_to_fp32;
    decltype(&ggml_cpu_fp32_to_fp16) fp32_to_fp16;
    decltype(&ggml_cpu_bf16_to_fp32) bf16_to_fp32;
    decltype(&ggml_get_type_traits_cpu) type_traits;
    decltype(&lookm::lookm_products) products;
    decltype(&lookm::lookm_tiles) tiles;
};

constexpr variant variants[] = {
#define LOOKM_VARIANT(name)                                                                        \
    {#name,                                                                                        \
     ggml_backend_score_##name,                                                                    \
     ggml_backend_cpu_reg_##name,                                                                  \
     ggml_cpu_fp16_to_fp32_##name,                                                                 \
     ggml_cpu_fp32_to_fp16_##name,                                                                 \
     ggml_cpu_bf16_to_fp32_##name,                                                                 \
     ggml_get_type_traits_cpu_##name,                                                              \
     lookm_products_##name,                                                                        \
     lookm_tiles_##name},
    LOOKM_CPU_VARIANTS
#undef LOOKM_VARIANT
};

// The first one runs everywhere. A score is 0 if the CPU lacks something that the variant needs.
const variant & find_best() {
    const char * wanted = std::getenv("LOOKM_CPU");
    const variant * best = &variants[0];
    for (const variant & v : variants) {
        const int score = v.score();
        if (score > 0 && wanted && v.name == wanted) {
            return v;
        }
        best = score > best->score() ? &v : best;
    }
    return *best;
}

const variant & best() {
    static const variant & found = find_best();
    return found;
}

} // namespace

ggml_backend_reg_t ggml_backend_cpu_reg(void) {
    return best().reg();
}

void ggml_cpu_fp16_to_fp32(const ggml_fp16_t * x, float * y, int64_t n) {
    best().fp16_to_fp32(x, y, n);
}

void ggml_cpu_fp32_to_fp16(const float * x, ggml_fp16_t * y, int64_t n) {
    best().fp32_to_fp16(x, y, n);
}

void ggml_cpu_bf16_to_fp32(const ggml_bf16_t * x, float * y, int64_t n) {
    best().bf16_to_fp32(x, y, n);
}

const ggml_type_traits_cpu * ggml_get_type_traits_cpu(ggml_type type) {
    return best().type_traits(type);
}

namespace lookm {

const cpu_products & lookm_products() {
    return best().products();
}

const cpu_tiles & lookm_tiles() {
    return best().tiles();
}

} // namespace lookm
