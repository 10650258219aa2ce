/* A 4-bit weight as bitsandbytes keeps it, and the scale of each of its blocks.

   The (out, in) weight is stored flat, row after row.  Two codes share a byte, the earlier one in the high half; a code is
   a place in `table`.  Blocks of 2^block_shift weights share a scale and run over the flat weight, so a row may begin
   in the middle of one.  With double quantization a scale is itself a code of one byte: a place in `scale_table`, times
   the scale of its own block of 2^group_shift scales, plus `offset`.
*/
#ifndef LORAHUB_WEIGHT_H
#define LORAHUB_WEIGHT_H
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *codes;
    const float *scales;            /* one of a block, or null: */
    const uint8_t *scale_codes;     /* one of a block */
    const float *scale_table;       /* 256 */
    const float *group_scales;      /* one of a group of blocks */
    float offset;
    int block_shift, group_shift;
    int64_t out, in;
    float table[16];
} lorahub_weight;

/* Return the scale of a block.  Two roundings, as where it is computed by itself: the build forbids a fused one. */
static inline float lorahub_scale(const lorahub_weight *w, int64_t block) {
    if (w->scales) return w->scales[block];
    float scale = w->scale_table[w->scale_codes[block]] * w->group_scales[block >> w->group_shift];
    return scale + w->offset;
}

static inline float lorahub_value(const lorahub_weight *w, int64_t index) {
    uint8_t pair = w->codes[index >> 1];
    return w->table[index & 1 ? pair & 15 : pair >> 4] * lorahub_scale(w, index >> w->block_shift);
}

/* Rows first to last of a weight, in them the columns from begin to end, as a dense array: bfloat16 or float32. */
typedef struct {
    void *dense; /* of row `origin` */
    int64_t origin, first, last, begin, end;
    int is_narrow;
} lorahub_panel;

static inline void *lorahub_row_of(const lorahub_panel *p, int64_t row) {
    const int64_t at = (row - p->origin) * (p->end - p->begin);
    return p->is_narrow ? (void *)((uint16_t *)p->dense + at) : (void *)((float *)p->dense + at);
}

/* Round to the nearest bfloat16, to the even one of two; what is no number stays none. */
static inline uint16_t lorahub_narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static inline void lorahub_put(float value, int is_narrow, void *dense, int64_t at) {
    if (is_narrow)
        ((uint16_t *)dense)[at] = lorahub_narrow(value);
    else
        ((float *)dense)[at] = value;
}
#endif
