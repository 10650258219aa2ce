/* hub.runtime.kernel._native: the door from Python.  Addresses and sizes come checked from hub.runtime.kernel.weights. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>
#include "ways.h"

enum { CLAIM = 1 << 15, LEAST = 24 }; /* multiplications, and columns, that are worth a claim of their own */

/* One call.  Columns of y, or rows of a panel, are claimed a few at a time by whichever thread is free. */
typedef struct {
    const lorahub_way *way;
    const lorahub_weight *weight;
    int64_t next, last, claim;
    const float *x, *bias;
    float *y;
    int64_t rows;
    lorahub_panel panel;
} job;

static int take(job *j, int64_t *first, int64_t *last) {
    *first = __atomic_fetch_add(&j->next, j->claim, __ATOMIC_RELAXED);
    *last = *first + j->claim < j->last ? *first + j->claim : j->last;
    return *first < j->last;
}

static void multiply_claims(void *argument) {
    job *j = argument;
    for (int64_t first, last; take(j, &first, &last);)
        j->way->product(j->weight, j->x, j->bias, j->y, j->rows, first, last);
}

static void dequantize_claims(void *argument) {
    job *j = argument;
    lorahub_panel panel = j->panel;
    while (take(j, &panel.first, &panel.last)) j->way->dequantize(j->weight, &panel);
}

/* Run a job in at most `threads` threads; one that is too small to share, in this one.
   work: multiplications of a column of y, or of a row of the panel. */
static void run(job *j, void (*claims)(void *), int64_t work, int64_t threads) {
    const int64_t claim = CLAIM / (work > 0 ? work : 1) / LEAST * LEAST; /* whole tiles */
    j->claim = claim < LEAST ? LEAST : claim;
    const int64_t most = (j->last - j->next + j->claim - 1) / j->claim;
    lorahub_in_team(claims, j, (int)(threads < most ? threads : most));
}

static int read_numbers(PyObject *const *args, Py_ssize_t given, int wanted, long long *numbers) {
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%d numbers are needed, %zd were given", wanted, given);
        return 0;
    }
    for (int i = 0; i < wanted; i++) {
        numbers[i] = PyLong_AsLongLong(args[i]);
        if (numbers[i] == -1 && PyErr_Occurred()) return 0;
    }
    return 1;
}

static const lorahub_way *way_at(long long place) {
    for (long long i = 0; lorahub_ways[i]; i++)
        if (i == place && lorahub_ways[i]->is_available()) return lorahub_ways[i];
    PyErr_SetString(PyExc_ValueError, "this machine has no such way");
    return NULL;
}

static const lorahub_weight *weight_of(PyObject *record) {
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(record, &bytes, &size) < 0) return NULL;
    if (size == sizeof(lorahub_weight)) return (const lorahub_weight *)bytes;
    PyErr_SetString(PyExc_ValueError, "not a weight's record");
    return NULL;
}

/* A way that holds registers full of whole words needs rows of whole words. */
static const lorahub_way *way_for(long long place, const lorahub_weight *w) {
    const lorahub_way *way = way_at(place);
    return way && w->in % LORAHUB_WORD ? &lorahub_portable : way;
}

PyDoc_STRVAR(ways_doc, "ways() -> names of the ways that this machine can take, each at its place, None for the others.");
static PyObject *ways(PyObject *self, PyObject *unused) {
    PyObject *names = PyList_New(0);
    for (int i = 0; names && lorahub_ways[i]; i++) {
        PyObject *name = PyUnicode_FromString(lorahub_ways[i]->is_available() ? lorahub_ways[i]->name : "");
        if (!name || PyList_Append(names, name) < 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

PyDoc_STRVAR(has_team_doc, "has_team() -> whether torch's threads were found; without them one thread computes.");
static PyObject *has_team(PyObject *self, PyObject *unused) { return PyBool_FromLong(lorahub_has_team()); }

PyDoc_STRVAR(weight_doc, "weight(codes, scales, scale_codes, scale_table, group_scales, table, block_shift, group_shift, "
                         "out, in, offset) -> record.  Addresses, sizes, and the offset as a float.");
static PyObject *weight(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    long long n[10];
    if (given != 11) return PyErr_Format(PyExc_TypeError, "11 arguments are needed, %zd were given", given);
    if (!read_numbers(args, 10, 10, n)) return NULL;
    double offset = PyFloat_AsDouble(args[10]);
    if (offset == -1.0 && PyErr_Occurred()) return NULL;
    lorahub_weight w;
    memset(&w, 0, sizeof w);
    w.codes = (const uint8_t *)(intptr_t)n[0];
    w.scales = (const float *)(intptr_t)n[1];
    w.scale_codes = (const uint8_t *)(intptr_t)n[2];
    w.scale_table = (const float *)(intptr_t)n[3];
    w.group_scales = (const float *)(intptr_t)n[4];
    memcpy(w.table, (const void *)(intptr_t)n[5], sizeof w.table);
    w.block_shift = (int)n[6];
    w.group_shift = (int)n[7];
    w.out = n[8];
    w.in = n[9];
    w.offset = (float)offset;
    return PyBytes_FromStringAndSize((const char *)&w, sizeof w);
}

PyDoc_STRVAR(product_doc, "product(record, way, x, bias, y, rows, threads): y = x W^T + bias, all float32 and contiguous.");
static PyObject *product(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    long long n[6];
    if (given != 7) return PyErr_Format(PyExc_TypeError, "7 arguments are needed, %zd were given", given);
    const lorahub_weight *w = weight_of(args[0]);
    if (!w || !read_numbers(args + 1, 6, 6, n)) return NULL;
    const lorahub_way *way = way_for(n[0], w);
    if (!way) return NULL;
    job j = {.way = way, .weight = w, .last = w->out, .rows = n[4]};
    j.x = (const float *)(intptr_t)n[1];
    j.bias = (const float *)(intptr_t)n[2];
    j.y = (float *)(intptr_t)n[3];
    float *laid = NULL;
    if (way->lanes && j.rows) {
        laid = lorahub_room(lorahub_laid_out_size(way->lanes, j.rows, w->in));
        if (!laid) return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    if (laid) {
        lorahub_lay_out(way->lanes, j.x, laid, j.rows, w->in);
        j.x = laid;
    }
    run(&j, multiply_claims, w->in * j.rows, n[5]);
    Py_END_ALLOW_THREADS
    free(laid);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(dequantize_doc, "dequantize(record, way, dense, is_narrow, first, last, begin, end, threads): dense = "
                             "W[first:last, begin:end] in float32, or where it is narrow in bfloat16.");
static PyObject *dequantize(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    long long n[8];
    if (given != 9) return PyErr_Format(PyExc_TypeError, "9 arguments are needed, %zd were given", given);
    const lorahub_weight *w = weight_of(args[0]);
    if (!w || !read_numbers(args + 1, 8, 8, n)) return NULL;
    const lorahub_way *way = way_for(n[0], w);
    if (!way) return NULL;
    if (n[5] % LORAHUB_WORD || n[6] % LORAHUB_WORD) way = &lorahub_portable;
    job j = {.way = way, .weight = w, .next = n[3], .last = n[4]};
    j.panel = (lorahub_panel){.dense = (void *)(intptr_t)n[1], .is_narrow = n[2] != 0, .origin = n[3], .begin = n[5], .end = n[6]};
    Py_BEGIN_ALLOW_THREADS
    run(&j, dequantize_claims, j.panel.end - j.panel.begin, n[7]);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"ways", ways, METH_NOARGS, ways_doc},
    {"has_team", has_team, METH_NOARGS, has_team_doc},
    {"weight", (PyCFunction)(void (*)(void))weight, METH_FASTCALL, weight_doc},
    {"product", (PyCFunction)(void (*)(void))product, METH_FASTCALL, product_doc},
    {"dequantize", (PyCFunction)(void (*)(void))dequantize, METH_FASTCALL, dequantize_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Products with 4-bit weights.", 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
