/* A 4-bit weight as bitsandbytes keeps it, and the scale of each of its blocks.

   The (out, in) weight is stored flat, row after row.  Two codes share a byte, the earlier one in the high half; a code is
   a place in `table`.  Blocks of 2^block_shift weights share a scale and run over the flat weight, so a row may begin
   in the middle of one.  With double quantization a scale is itself a code of one byte: a place in `scale_table`, times
   the scale of its own block of 2^group_shift scales, plus `offset`.
*/
#ifndef LORAHUB_WEIGHT_H
#define LORAHUB_WEIGHT_H
#include <stdint.h>

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
#endif
