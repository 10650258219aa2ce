/* Plain C, for any CPU and any shape.  Sums run over 16 lanes: short chains round little and don't wait for each other. */
#include "ways.h"

enum { LANES = 16, STRIP = 1024, TOGETHER = LORAHUB_ROWS };

static int always(void) { return 1; }

/* Write `count` values from `index` of the flat weight on. */
static void decode(const lorahub_weight *w, int64_t index, int64_t count, float *values) {
    for (int64_t i = 0; i < count;) {
        const int64_t block = (index + i) >> w->block_shift, edge = ((block + 1) << w->block_shift) - index;
        const int64_t end = edge < count ? edge : count;
        const float scale = lorahub_scale(w, block);
        float scaled[16];
        for (int code = 0; code < 16; code++) scaled[code] = w->table[code] * scale;
        if ((index + i) & 1) values[i] = scaled[w->codes[(index + i) >> 1] & 15], i++;
        for (; i + 2 <= end; i += 2) {
            const uint8_t pair = w->codes[(index + i) >> 1];
            values[i] = scaled[pair >> 4];
            values[i + 1] = scaled[pair & 15];
        }
        if (i < end) values[i] = scaled[w->codes[(index + i) >> 1] >> 4], i++;
    }
}

static void add_dot(const float *values, const float *x, int64_t count, float *sums) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += values[i + lane] * x[i + lane];
    for (; i < count; i++) sums[i % LANES] += values[i] * x[i];
}

static float total(float *sums) {
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    return sums[0];
}

/* One column of y, in at most TOGETHER rows: each strip of the weight is decoded once for all of them. */
static void column(const lorahub_weight *w, const float *x, float bias, float *y, int64_t rows, int64_t o) {
    float values[STRIP], sums[TOGETHER][LANES];
    memset(sums, 0, sizeof sums);
    for (int64_t strip = 0; strip < w->in; strip += STRIP) {
        const int64_t count = w->in - strip < STRIP ? w->in - strip : STRIP;
        decode(w, o * w->in + strip, count, values);
        for (int64_t row = 0; row < rows; row++) add_dot(values, x + row * w->in + strip, count, sums[row]);
    }
    for (int64_t row = 0; row < rows; row++) y[row * w->out + o] = total(sums[row]) + bias;
}

static void product(const lorahub_weight *w, const float *x, const float *bias, float *y, int64_t rows, int64_t first,
                    int64_t last) {
    for (int64_t row = 0; row < rows; row += TOGETHER) {
        const int64_t group = rows - row < TOGETHER ? rows - row : TOGETHER;
        for (int64_t o = first; o < last; o++)
            column(w, x + row * w->in, bias ? bias[o] : 0.0f, y + row * w->out, group, o);
    }
}

static void dequantize(const lorahub_weight *w, const lorahub_panel *p) {
    float values[STRIP];
    for (int64_t row = p->first; row < p->last; row++)
        for (int64_t strip = p->begin; strip < p->end; strip += STRIP) {
            const int64_t count = p->end - strip < STRIP ? p->end - strip : STRIP;
            decode(w, row * w->in + strip, count, values);
            for (int64_t i = 0; i < count; i++)
                lorahub_put(values[i], p->is_narrow, lorahub_row_of(p, row), strip - p->begin + i);
        }
}

const lorahub_way lorahub_portable = {"portable", 0, always, product, dequantize};
