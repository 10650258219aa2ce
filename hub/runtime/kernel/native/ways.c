/* Which ways there are, how x is laid out for them, and the threads that they run in. */
#define _GNU_SOURCE
#include "ways.h"
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

const lorahub_way *const lorahub_ways[] = {
#if defined(__x86_64__)
    &lorahub_avx512,
    &lorahub_avx2,
#elif defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    &lorahub_neon,
#endif
    &lorahub_portable,
    NULL,
};

int64_t lorahub_laid_out_size(int lanes, int64_t rows, int64_t in) {
    const int64_t chunk = (int64_t)lanes * LORAHUB_WORD;
    return rows * ((in + chunk - 1) / chunk * chunk);
}

float *lorahub_room(int64_t floats) {
    void *room = NULL;
    return posix_memalign(&room, 64, (size_t)floats * sizeof(float)) ? NULL : room;
}

/* One row of a group of `rows`, beginning at its first chunk. */
static void lay_out_row(int lanes, const float *x, float *laid, int64_t rows, int64_t words) {
    const int64_t step = rows * lanes; /* from one half byte to the next */
    for (int64_t begin = 0; begin < words; begin += lanes, laid += step * LORAHUB_WORD) {
        const int64_t count = words - begin < lanes ? words - begin : lanes;
        const float *from = x + begin * LORAHUB_WORD;
        for (int n = 0; n < LORAHUB_WORD; n++) {
            float *to = laid + (n ^ 1) * step; /* the earlier code of a byte is the high one */
            for (int64_t lane = 0; lane < count; lane++) to[lane] = from[lane * LORAHUB_WORD + n];
            for (int64_t lane = count; lane < lanes; lane++) to[lane] = 0.0f;
        }
    }
}

void lorahub_lay_out(int lanes, const float *x, float *laid, int64_t rows, int64_t in) {
    for (int64_t first = 0; first < rows; first += LORAHUB_ROWS) {
        const int64_t group = rows - first < LORAHUB_ROWS ? rows - first : LORAHUB_ROWS;
        float *begin = laid + lorahub_laid_out_size(lanes, first, in);
        for (int64_t row = 0; row < group; row++)
            lay_out_row(lanes, x + (first + row) * in, begin + row * lanes, group, in / LORAHUB_WORD);
    }
}

typedef void (*gomp_parallel)(void (*run)(void *), void *argument, unsigned threads, unsigned flags);

static gomp_parallel find_team(void) {
    union {
        void *symbol;
        gomp_parallel call;
    } found = {dlsym(RTLD_DEFAULT, "GOMP_parallel")};
    return found.call;
}

int lorahub_has_team(void) { return find_team() != NULL; }

void lorahub_in_team(void (*run)(void *), void *argument, int threads) {
    static gomp_parallel found; /* two threads that both look find the same */
    gomp_parallel parallel = threads > 1 ? __atomic_load_n(&found, __ATOMIC_RELAXED) : NULL;
    if (threads > 1 && !parallel) __atomic_store_n(&found, parallel = find_team(), __ATOMIC_RELAXED);
    if (parallel)
        parallel(run, argument, (unsigned)threads, 0);
    else
        run(argument);
}
