/* Columns that grow row by row and become Arrow arrays without a copy.
 *
 * Decides how variable-length values lie: as Arrow views (16 bytes a row; what does not fit into 12 bytes stands
 * in blocks beside, which never move). Every buffer is malloc'ed by itself, and freed once: by `drop` as long as
 * it is ours, by the array's `release` once it was given. Functions give -1 where memory ends.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct array { /* Arrow's C data interface */
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct array **children, *dictionary;
    void (*release)(struct array *);
    void *private_data;
};

struct view {
    int32_t size;
    union {
        uint8_t whole[12];
        struct {
            uint8_t prefix[4];
            int32_t block, offset;
        } part;
    } is;
};

struct views {
    struct view *at;
    uint8_t *valid;
    int64_t rows, room, nulls;
    uint8_t **block;
    int64_t *used, blocks, left, last; /* left in the last block, its size */
};

enum { FIRST = 1024, SMALLEST_BLOCK = 1 << 16, GREATEST_BLOCK = 1 << 22 };

static void *grown(void *at, int64_t room, size_t width, int *failed) {
    void *more = realloc(at, (size_t)room * width);
    if (!more) *failed = -1;
    return more ? more : at;
}

/* Give an array of ours more room. */
#define GROW(at, room, failed) ((at) = grown((at), (room), sizeof *(at), (failed)))

static void mark(uint8_t *bits, int64_t row, int set) {
    if (!(row & 7)) bits[row >> 3] = 0;
    bits[row >> 3] |= (uint8_t)(set << (row & 7));
}

/* Give room for `size` bytes in the last block, or in a new one. */
static uint8_t *room_for(struct views *v, int64_t size) {
    if (!v->blocks || v->left < size) {
        int64_t fresh = v->last ? v->last * 2 : SMALLEST_BLOCK;
        if (fresh > GREATEST_BLOCK) fresh = GREATEST_BLOCK;
        v->last = fresh;
        if (fresh < size) fresh = size;
        int failed = 0;
        GROW(v->block, v->blocks + 1, &failed);
        GROW(v->used, v->blocks + 1, &failed);
        if (failed || !(v->block[v->blocks] = malloc((size_t)fresh))) return NULL;
        v->used[v->blocks++] = 0;
        v->left = fresh;
    }
    return v->block[v->blocks - 1] + v->used[v->blocks - 1];
}

static int add(struct views *v, struct view one, int valid) {
    if (v->rows == v->room) {
        int64_t room = v->room ? v->room * 2 : FIRST;
        int failed = 0;
        GROW(v->at, room, &failed);
        GROW(v->valid, room / 8, &failed);
        if (failed) return -1;
        v->room = room;
    }
    v->nulls += !valid;
    mark(v->valid, v->rows, valid);
    v->at[v->rows++] = one;
    return 0;
}

/* Add a value, or a null where `from` is NULL. */
static int push(struct views *v, const void *from, size_t size) {
    struct view one = {0};
    if (!from) return add(v, one, 0);
    if (size <= sizeof one.is.whole) {
        one.size = (int32_t)size;
        memcpy(one.is.whole, from, size);
    } else {
        uint8_t *to = size <= INT32_MAX ? room_for(v, (int64_t)size) : NULL;
        if (!to) return -1;
        memcpy(to, from, size);
        one.size = (int32_t)size;
        memcpy(one.is.part.prefix, from, sizeof one.is.part.prefix);
        one.is.part.block = (int32_t)(v->blocks - 1);
        one.is.part.offset = (int32_t)v->used[v->blocks - 1];
        v->used[v->blocks - 1] += (int64_t)size;
        v->left -= (int64_t)size;
    }
    return add(v, one, 1);
}

/* Add the last value, which must not be null, once more: the bytes stay where they are. */
static int again(struct views *v) { return add(v, v->at[v->rows - 1], 1); }

static void drop(struct views *v) {
    for (int64_t i = 0; i < v->blocks; i++) free(v->block[i]);
    free(v->block), free(v->used), free(v->at), free(v->valid);
    memset(v, 0, sizeof *v);
}

static void release(struct array *a) {
    for (int64_t i = 0; a->buffers && i < a->n_buffers; i++) free((void *)a->buffers[i]);
    for (int64_t i = 0; a->children && i < a->n_children; i++) {
        if (a->children[i] && a->children[i]->release) a->children[i]->release(a->children[i]);
        free(a->children[i]);
    }
    free(a->buffers), free(a->children);
    a->release = NULL;
}

static int array(struct array *a, int64_t length, int64_t nulls, int64_t buffers, int64_t children) {
    *a = (struct array){.length = length, .null_count = nulls, .n_buffers = buffers, .n_children = children,
                        .release = release};
    a->buffers = calloc((size_t)buffers, sizeof *a->buffers);
    a->children = children ? calloc((size_t)children, sizeof *a->children) : NULL;
    if (!a->buffers || (children && !a->children)) return -1;
    for (int64_t i = 0; i < children; i++)
        if (!(a->children[i] = calloc(1, sizeof **a->children))) return -1;
    return 0;
}

/* Give a buffer to Arrow: it is no longer ours. */
#define GIVE(a, i, from) ((a)->buffers[i] = (from), (from) = NULL)

static int viewed(struct array *a, struct views *v) {
    if (array(a, v->rows, v->nulls, 3 + v->blocks, 0)) return -1;
    GIVE(a, 0, v->valid);
    GIVE(a, 1, v->at);
    for (int64_t i = 0; i < v->blocks; i++) {
        if (i == v->blocks - 1) { /* what was not used of the last one goes back */
            void *less = realloc(v->block[i], (size_t)v->used[i]);
            if (less) v->block[i] = less;
        }
        GIVE(a, 2 + i, v->block[i]);
    }
    GIVE(a, 2 + v->blocks, v->used);
    return 0;
}
