/* AVX-512F: the 16 values are one register, and a permutation looks 16 codes up at once; it reads the low 4 bits of a lane. */
#include "ways.h"
#if defined(__x86_64__)
#include <immintrin.h>
#include "target.h"
BEGIN_TARGET("avx512f")

enum { LANES = 16, WORDS = 2, MOST_SUMS = 24 };
typedef __m512 vec;
typedef __m512i codes;
typedef __m512 tables;

static inline tables load_tables(const float *table) { return _mm512_loadu_ps(table); }
static inline codes load_codes(const uint8_t *from) { return _mm512_loadu_si512(from); }
static inline codes load_some_codes(const uint8_t *from, int count) {
    return _mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1), from);
}
static inline vec load(const float *from) { return _mm512_loadu_ps(from); }
static inline void store(float *to, vec a) { _mm512_storeu_ps(to, a); }
static inline vec zero(void) { return _mm512_setzero_ps(); }
static inline vec multiply(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec multiply_add(vec a, vec b, vec sum) { return _mm512_fmadd_ps(a, b, sum); }
static inline float total(vec a) { return _mm512_reduce_add_ps(a); }
static inline vec look_up(tables t, codes c, int n) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(c, (unsigned)(4 * n)), t);
}
static inline vec in_order(tables t, const uint8_t *from, float scale) {
    int first, second;
    memcpy(&first, from, 4);
    memcpy(&second, from + 4, 4);
    const __m512i shifts = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
    __m512i c = _mm512_mask_set1_epi32(_mm512_set1_epi32(first), 0xFF00, second);
    return multiply(_mm512_permutexvar_ps(_mm512_srlv_epi32(c, shifts), t), _mm512_set1_ps(scale));
}
static inline void store_in_order(tables t, const uint8_t *from, float scale, float *dense) {
    _mm512_storeu_ps(dense, in_order(t, from, scale));
}
static inline void store_narrow(tables t, const uint8_t *from, float scale, uint16_t *dense) {
    const vec value = in_order(t, from, scale);
    const __m512i bits = _mm512_castps_si512(value), high = _mm512_srli_epi32(bits, 16);
    const __m512i half = _mm512_add_epi32(_mm512_and_si512(high, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7FFF));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, is_nan, high, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256((__m256i *)dense, _mm512_cvtepi32_epi16(rounded));
}
#include "lanes.inc"

static int is_available(void) { return __builtin_cpu_supports("avx512f") != 0; }
const lorahub_way lorahub_avx512 = {"avx512", LANES, is_available, product, dequantize};
END_TARGET
#endif
