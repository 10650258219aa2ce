/* NEON on 64-bit ARM: the 16 values are four registers of bytes, and a code becomes the places of its value's four bytes. */
#include "ways.h"
#if defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>

enum { LANES = 4, WORDS = 1, MOST_SUMS = 16 };
typedef float32x4_t vec;
typedef uint32x4_t codes;
typedef uint8x16x4_t tables;

static inline tables load_tables(const float *table) {
    const uint8_t *bytes = (const uint8_t *)table;
    return (tables){{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
}
static inline codes load_codes(const uint8_t *from) { return vreinterpretq_u32_u8(vld1q_u8(from)); }
static inline codes load_some_codes(const uint8_t *from, int count) {
    uint32_t words[4] = {0, 0, 0, 0};
    memcpy(words, from, (unsigned long)count * 4);
    return vld1q_u32(words);
}
static inline vec load(const float *from) { return vld1q_f32(from); }
static inline void store(float *to, vec a) { vst1q_f32(to, a); }
static inline vec zero(void) { return vdupq_n_f32(0.0f); }
static inline vec multiply(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec multiply_add(vec a, vec b, vec sum) { return vfmaq_f32(sum, a, b); }
static inline float total(vec a) { return vaddvq_f32(a); }
/* code: 0 to 15 in each lane. */
static inline vec value_of(tables t, uint32x4_t code) {
    uint32x4_t places = vmlaq_n_u32(vdupq_n_u32(0x03020100), code, 0x04040404);
    return vreinterpretq_f32_u8(vqtbl4q_u8(t, vreinterpretq_u8_u32(places)));
}
static inline vec look_up(tables t, codes c, int n) {
    uint32x4_t shifted = vshlq_u32(c, vdupq_n_s32(-4 * n));
    return value_of(t, vandq_u32(shifted, vdupq_n_u32(15)));
}
/* Half a word, times its scale. */
static inline vec in_order(tables t, const uint8_t *from, float scale, int32x4_t shifts) {
    uint32_t word;
    memcpy(&word, from, 4);
    return vmulq_n_f32(value_of(t, vandq_u32(vshlq_u32(vdupq_n_u32(word), shifts), vdupq_n_u32(15))), scale);
}
static const int32x4_t FIRST = {-4, 0, -12, -8}, SECOND = {-20, -16, -28, -24};

static inline void store_in_order(tables t, const uint8_t *from, float scale, float *dense) {
    vst1q_f32(dense, in_order(t, from, scale, FIRST));
    vst1q_f32(dense + 4, in_order(t, from, scale, SECOND));
}
static inline uint16x4_t narrow(vec value) {
    const uint32x4_t bits = vreinterpretq_u32_f32(value), high = vshrq_n_u32(bits, 16);
    const uint32x4_t half = vaddq_u32(vandq_u32(high, vdupq_n_u32(1)), vdupq_n_u32(0x7FFF));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, half), 16), nan = vorrq_u32(high, vdupq_n_u32(0x40));
    return vmovn_u32(vbslq_u32(vceqq_f32(value, value), rounded, nan));
}
static inline void store_narrow(tables t, const uint8_t *from, float scale, uint16_t *dense) {
    vst1_u16(dense, narrow(in_order(t, from, scale, FIRST)));
    vst1_u16(dense + 4, narrow(in_order(t, from, scale, SECOND)));
}
#include "lanes.inc"

static int is_available(void) { return 1; } /* every 64-bit ARM has it */
const lorahub_way lorahub_neon = {"neon", LANES, is_available, product, dequantize};
#endif
