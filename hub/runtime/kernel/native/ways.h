/* The ways to compute, one for each instruction set.  All compute the same functions. */
#ifndef LORAHUB_WAYS_H
#define LORAHUB_WAYS_H
#include "weight.h"

enum { LORAHUB_ROWS = 8, LORAHUB_WORD = 8 }; /* rows of x that are computed together; codes in 32 bits */

typedef struct {
    const char *name;
    int lanes; /* of 32 bits in a register; 0: x stays as it is */
    int (*is_available)(void);
    /* Write y[row, o] = bias[o] + sum over in of x[row, in] * W[o, in], for first <= o < last.
       x: as `lorahub_lay_out` leaves it for this number of lanes.  bias: or null. */
    void (*product)(const lorahub_weight *w, const float *x, const float *bias, float *y, int64_t rows, int64_t first,
                    int64_t last);
    /* Write a panel of the weight; its columns begin and end at whole words. */
    void (*dequantize)(const lorahub_weight *w, const lorahub_panel *panel);
} lorahub_way;

extern const lorahub_way lorahub_portable, lorahub_avx2, lorahub_avx512, lorahub_neon;

/* All ways of this build, the best first, and then null. */
extern const lorahub_way *const lorahub_ways[];

/* Return how many floats x takes when it is laid out. */
int64_t lorahub_laid_out_size(int lanes, int64_t rows, int64_t in);

/* Return room for so many floats, at the edge of a line of the cache, or null.  Free it with free(). */
float *lorahub_room(int64_t floats);

/* Put x in the order in which codes come out of registers: [group of rows][chunk][half byte][row][lane].
   A chunk is `lanes` words of 8 codes; what lies past the row's end is 0.  in: a multiple of 8. */
void lorahub_lay_out(int lanes, const float *x, float *laid, int64_t rows, int64_t in);

/* Call run(argument) in up to `threads` threads at once, and return after the last.  They are the team of the OpenMP
   runtime that is in the process already, which is that of torch: no thread is made beside its own. */
void lorahub_in_team(void (*run)(void *), void *argument, int threads);
int lorahub_has_team(void);
#endif
