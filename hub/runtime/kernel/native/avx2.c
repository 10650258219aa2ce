/* AVX2 and FMA: the 16 values are two registers, and the highest bit of a code chooses between them. */
#include "ways.h"
#if defined(__x86_64__)
#include <immintrin.h>
#include "target.h"
BEGIN_TARGET("avx2,fma")

enum { LANES = 8, WORDS = 1, MOST_SUMS = 8 };
typedef __m256 vec;
typedef __m256i codes;
typedef struct {
    __m256 low, high;
    __m256i planes[4]; /* the n-th bytes of all 16 values, in both halves */
} tables;

/* Bytes 4i + n of a half go to 4n + i, and back. */
static inline __m128i turning(void) { return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }

static inline tables load_tables(const float *table) {
    tables t = {.low = _mm256_loadu_ps(table), .high = _mm256_loadu_ps(table + 8)};
    __m128 four[4];
    for (int i = 0; i < 4; i++) {
        const __m128i values = _mm_loadu_si128((const __m128i *)(table + 4 * i));
        four[i] = _mm_castsi128_ps(_mm_shuffle_epi8(values, turning()));
    }
    _MM_TRANSPOSE4_PS(four[0], four[1], four[2], four[3]);
    for (int n = 0; n < 4; n++) t.planes[n] = _mm256_broadcastsi128_si256(_mm_castps_si128(four[n]));
    return t;
}
static inline codes load_codes(const uint8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
static inline codes load_some_codes(const uint8_t *from, int count) {
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_epi32((const int *)from, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), places));
}
static inline vec load(const float *from) { return _mm256_loadu_ps(from); }
static inline void store(float *to, vec a) { _mm256_storeu_ps(to, a); }
static inline vec zero(void) { return _mm256_setzero_ps(); }
static inline vec multiply(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec multiply_add(vec a, vec b, vec sum) { return _mm256_fmadd_ps(a, b, sum); }
static inline float total(vec a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
/* low_first: the code in the lowest bits; high_first: the same code in the highest. */
static inline vec choose(tables t, __m256i low_first, __m256i high_first) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.low, low_first), _mm256_permutevar8x32_ps(t.high, low_first),
                            _mm256_castsi256_ps(high_first));
}
static inline vec look_up(tables t, codes c, int n) {
    return choose(t, _mm256_srli_epi32(c, 4 * n), _mm256_slli_epi32(c, 28 - 4 * n));
}
/* 32 codes, a byte each: their values' bytes are looked up plane by plane and woven together, 8 values to a register. */
static inline void weave(tables t, __m256i code, vec *value) {
    const __m256i a = _mm256_shuffle_epi8(t.planes[0], code), b = _mm256_shuffle_epi8(t.planes[1], code);
    const __m256i c = _mm256_shuffle_epi8(t.planes[2], code), d = _mm256_shuffle_epi8(t.planes[3], code);
    const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpacklo_epi8(c, d);
    const __m256i low2 = _mm256_unpackhi_epi8(a, b), high2 = _mm256_unpackhi_epi8(c, d);
    value[0] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low, high));
    value[2] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low, high));
    value[4] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low2, high2));
    value[6] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low2, high2));
}
#define LOOKS_UP_ALL
static inline void look_up_all(tables t, codes c, vec *value) {
    const __m256i turned = _mm256_shuffle_epi8(c, _mm256_broadcastsi128_si256(turning())), half = _mm256_set1_epi8(15);
    weave(t, _mm256_and_si256(turned, half), value);
    weave(t, _mm256_and_si256(_mm256_srli_epi32(turned, 4), half), value + 1);
}
static inline vec in_order(tables t, const uint8_t *from, float scale) {
    int word;
    memcpy(&word, from, 4);
    const __m256i shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
    __m256i c = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
    return multiply(choose(t, c, _mm256_slli_epi32(c, 28)), _mm256_set1_ps(scale));
}
static inline void store_in_order(tables t, const uint8_t *from, float scale, float *dense) {
    _mm256_storeu_ps(dense, in_order(t, from, scale));
}
static inline void store_narrow(tables t, const uint8_t *from, float scale, uint16_t *dense) {
    const vec value = in_order(t, from, scale);
    const __m256i bits = _mm256_castps_si256(value), high = _mm256_srli_epi32(bits, 16);
    const __m256i half = _mm256_add_epi32(_mm256_and_si256(high, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7FFF));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), is_nan);
    _mm_storeu_si128((__m128i *)dense,
                     _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
}
#include "lanes.inc"

static int is_available(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
const lorahub_way lorahub_avx2 = {"avx2", LANES, is_available, product, dequantize};
END_TARGET
#endif
