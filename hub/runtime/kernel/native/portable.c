/* Plain C, for any CPU and any shape.  Sums run over 16 lanes: short chains round little and don't wait for each other. */
#include "ways.h"

enum { LANES = 16 };

static int always(void) { return 1; }

static float dot(const lorahub_weight *w, const float *x, int64_t begin) {
    float sum[LANES] = {0};
    for (int64_t i = 0; i < w->in;) {
        int64_t block = (begin + i) >> w->block_shift;
        int64_t end = ((block + 1) << w->block_shift) - begin;
        if (end > w->in) end = w->in;
        float scale = lorahub_scale(w, block);
        for (; i < end; i++) {
            uint8_t pair = w->codes[(begin + i) >> 1];
            sum[i % LANES] += w->table[(begin + i) & 1 ? pair & 15 : pair >> 4] * scale * x[i];
        }
    }
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) sum[lane] += sum[lane + half];
    return sum[0];
}

static void product(const lorahub_weight *w, const float *x, const float *bias, float *y, int64_t rows, int64_t first,
                    int64_t last) {
    for (int64_t o = first; o < last; o++)
        for (int64_t row = 0; row < rows; row++)
            y[row * w->out + o] = dot(w, x + row * w->in, o * w->in) + (bias ? bias[o] : 0.0f);
}

static void dequantize(const lorahub_weight *w, float *dense, int64_t first, int64_t last) {
    int64_t begin = first * w->in, end = last * w->in;
    for (int64_t i = begin; i < end; i++) dense[i - begin] = lorahub_value(w, i);
}

const lorahub_way lorahub_portable = {"portable", 0, always, product, dequantize};
