/* Every way on random weights in buffers that are not a byte too long, against sums in double.

   Built with sanitizers, or for another processor.  Prints how many products and panels were right, by way; exits 1 at
   the first that is not.
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ways.h"

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static float draw_float(void) { return (float)draw(1 << 20) / (1 << 19) - 1.0f; }

static float *draw_floats(int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = draw_float();
    return values;
}

#ifndef MISSING
#define MISSING 0 /* bytes: with one, the sanitizer must find a read too far */
#endif

static uint8_t *draw_bytes(int64_t count) {
    uint8_t *bytes = malloc((size_t)(count - MISSING));
    for (int64_t i = 0; i < count - MISSING; i++) bytes[i] = (uint8_t)draw(256);
    return bytes;
}

static lorahub_weight draw_weight(int64_t out, int64_t in, int is_double) {
    lorahub_weight w = {.out = out, .in = in, .block_shift = 5 + (int)draw(8), .group_shift = 5 + (int)draw(4)};
    const int64_t blocks = ((out * in - 1) >> w.block_shift) + 1;
    w.codes = draw_bytes((out * in + 1) / 2);
    if (is_double) {
        w.scale_codes = draw_bytes(blocks);
        w.scale_table = draw_floats(256);
        w.group_scales = draw_floats(((blocks - 1) >> w.group_shift) + 1);
        w.offset = draw_float();
    } else {
        w.scales = draw_floats(blocks);
    }
    for (int code = 0; code < 16; code++) w.table[code] = draw_float();
    return w;
}

static void drop_weight(lorahub_weight *w) {
    free((void *)w->codes), free((void *)w->scales), free((void *)w->scale_codes);
    free((void *)w->scale_table), free((void *)w->group_scales);
}

static void fail(const char *what, const lorahub_way *way, const lorahub_weight *w, int64_t rows) {
    printf("%s: wrong %s of %lld x %lld, block 2^%d, %lld rows\n", way->name, what, (long long)w->out,
           (long long)w->in, w->block_shift, (long long)rows);
    exit(1);
}

static void check_product(const lorahub_way *way, const lorahub_weight *w, int64_t rows) {
    float *x = draw_floats(rows * w->in), *bias = draw_floats(w->out), *y = draw_floats(rows * w->out), *laid = x;
    if (way->lanes) {
        laid = lorahub_room(lorahub_laid_out_size(way->lanes, rows, w->in));
        lorahub_lay_out(way->lanes, x, laid, rows, w->in);
    }
    const int64_t middle = draw((uint32_t)w->out + 1);
    way->product(w, laid, bias, y, rows, 0, middle);
    way->product(w, laid, bias, y, rows, middle, w->out);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t o = 0; o < w->out; o++) {
            double sum = bias[o], size = fabs(sum);
            for (int64_t i = 0; i < w->in; i++) {
                const double term = (double)x[row * w->in + i] * lorahub_value(w, o * w->in + i);
                sum += term, size += fabs(term);
            }
            if (!(fabs(y[row * w->out + o] - sum) <= 1e-6 * size)) fail("product", way, w, rows);
        }
    if (laid != x) free(laid);
    free(x), free(bias), free(y);
}

static void check_panel(const lorahub_way *way, const lorahub_weight *w, int is_narrow) {
    const int64_t step = way->lanes ? LORAHUB_WORD : 1, steps = w->in / step;
    lorahub_panel p = {.is_narrow = is_narrow, .first = draw((uint32_t)w->out), .last = w->out};
    p.begin = step * draw((uint32_t)steps);
    p.end = p.begin + step * (1 + draw((uint32_t)(steps - p.begin / step)));
    p.origin = p.first;
    const int64_t columns = p.end - p.begin, size = is_narrow ? 2 : 4;
    p.dense = malloc((size_t)((p.last - p.first) * columns * size));
    way->dequantize(w, &p);
    for (int64_t row = p.first; row < p.last; row++)
        for (int64_t i = 0; i < columns; i++) {
            float expected[1];
            lorahub_put(lorahub_value(w, row * w->in + p.begin + i), is_narrow, expected, 0);
            if (memcmp((char *)lorahub_row_of(&p, row) + i * size, expected, (size_t)size)) fail("panel", way, w, 0);
        }
    free(p.dense);
}

static void check_way(const lorahub_way *way, int cases) {
    for (int number = 0; number < cases; number++) {
        int64_t in = 1 + draw(number % 10 ? 400 : 9000);
        if (way->lanes) in = (in + LORAHUB_WORD - 1) / LORAHUB_WORD * LORAHUB_WORD;
        lorahub_weight w = draw_weight(1 + draw(60), in, number & 1);
        check_product(way, &w, 1 + draw(20));
        check_panel(way, &w, 0);
        check_panel(way, &w, 1);
        drop_weight(&w);
    }
    printf("%s %d\n", way->name, cases);
}

int main(int count, char **words) {
    for (int i = 0; lorahub_ways[i]; i++)
        if (lorahub_ways[i]->is_available()) check_way(lorahub_ways[i], count > 1 ? atoi(words[1]) : 100);
    return 0;
}
