/* The plan as a tree of nodes, each with the Arrow buffers that it fills.
 *
 * A node that holds n values always takes the next as its n-th; `cut` takes values back. A node's buffers: validity
 * (bits), data (bits, numbers, 16-byte string views, or 64-bit list offsets) and heap (strings too long for a view).
 */
#ifndef SLUICE_JSON_NODE_H
#define SLUICE_JSON_NODE_H

#include "json_time.h"

/* As in `sluice.json.plan`, name by name. */
enum kind {
    PATH, STRUCT, LIST, NAME, BOOLEAN, INTEGER, DECIMAL, FLOAT, STRING, ENUM, BINARY, DATETIME, DATE, CLOCK, DURATION,
    UNSCALED, COUNT, ANY, UNSURE, NEVER
};

/* What a path does with members that no child takes: pass over, count, or leave the row in doubt. */
enum strangers { PASSED, MET, REFUSED };

enum flags { NAIVE = 16, BARE = 32, NO_TEXT = 64, GUESSED = 256 }; /* beside places of a unit; of a scale */

#define HEAP_LIMIT INT32_MAX /* a view's offset has 32 bits */

typedef struct node {
    /* what to read */
    enum kind kind;
    int column;            /* whose value this is; -1: a part of one, or above them */
    int64_t a, b;          /* PATH: strangers; INTEGER: bits, signed with NO_TEXT; DECIMAL: precision, scale; FLOAT: bits,
                              NO_TEXT; LIST: size or -1; DATETIME, DURATION: places of the unit with flags, places of epoch numbers or -1;
                              DATE, CLOCK: flags, places of counts or -1; UNSCALED: precision, scale with GUESSED */
    double limit;          /* FLOAT: what rounds to infinity */
    wide most;             /* DECIMAL, UNSCALED: the greatest digits */
    const byte *name;
    int64_t name_size;     /* -1: never found, such as names that need escapes */
    struct node *children;
    int size, guess;       /* children; the one that probably comes next */
    int twin;              /* the next child of the same name, or -1 */
    int32_t *table;        /* children by the hash of their names; -1: none */
    uint32_t mask;
    int width;             /* bits of a value in data; 0: no data */
    /* what was read */
    int64_t count, room;
    byte *validity, *data, *heap;
    int64_t heap_size, heap_room;
} node;

static inline uint32_t hash_of(const byte *p, int64_t size, uint32_t seed)
{
    uint32_t hash = 2166136261u ^ seed;
    for (int64_t i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 16777619u;
    return hash ^ hash >> 15;
}

static inline int is_name(const node *n, const byte *p, int64_t size)
{
    return n->name_size == size && !memcmp(n->name, p, (size_t)size);
}

/* The first child of this name, or -1. */
static inline int child_of(const node *n, const byte *p, int64_t size)
{
    for (uint32_t at = hash_of(p, size, 0) & n->mask; n->table[at] >= 0; at = (at + 1) & n->mask)
        if (is_name(&n->children[n->table[at]], p, size))
            return n->table[at];
    return -1;
}

static inline int index_children(node *n)
{
    uint32_t room = 4;
    while (room < 2u * (uint32_t)n->size)
        room *= 2;
    n->mask = room - 1;
    n->table = malloc(room * sizeof *n->table);
    if (!n->table)
        return 0;
    memset(n->table, 0xFF, room * sizeof *n->table);
    for (int i = n->size - 1; i >= 0; i--) { /* backwards, so that twins are chained in their order */
        node *child = &n->children[i];
        if (child->name_size < 0)
            continue;
        uint32_t at = hash_of(child->name, child->name_size, 0) & n->mask;
        while (n->table[at] >= 0 && !is_name(&n->children[n->table[at]], child->name, child->name_size))
            at = (at + 1) & n->mask;
        child->twin = n->table[at];
        n->table[at] = i;
        if (child->twin >= 0)
            n->children[child->twin].name_size = -1; /* found by way of its twin only */
    }
    return 1;
}

static inline int64_t *offsets_of(const node *n) { return (int64_t *)n->data; }

/* Make room for so many values in all. */
static inline int reserve(node *n, int64_t count)
{
    if ((count <= n->room && n->room) || n->kind == NAME)
        return 1;
    int64_t room = count > 2 * n->room ? count : 2 * n->room;
    room = (room + 64) & ~63ll;
    byte *validity = realloc(n->validity, (size_t)room / 8);
    if (!validity)
        return 0;
    n->validity = validity;
    if (n->width) {
        byte *data = realloc(n->data, (size_t)(room * n->width / 8 + 8)); /* lists have one offset more */
        if (!data)
            return 0;
        if (!n->room)
            memset(data, 0, 8);
        n->data = data;
    }
    n->room = room;
    return 1;
}

static inline void set_bit(byte *bits, int64_t at, int on)
{
    byte mask = (byte)(1 << (at & 7));
    bits[at >> 3] = (byte)(on ? bits[at >> 3] | mask : bits[at >> 3] & ~mask);
}

/* Count one value more, whose data stands. */
static inline void counted(node *n, int valid)
{
    set_bit(n->validity, n->count++, valid);
}

static inline int null(node *n)
{
    if (!reserve(n, n->count + 1))
        return 0;
    if (n->kind == LIST)
        offsets_of(n)[n->count + 1] = offsets_of(n)[n->count];
    else if (n->width == 1)
        set_bit(n->data, n->count, 0);
    else if (n->width)
        memset(n->data + n->count * (n->width / 8), 0, (size_t)n->width / 8);
    counted(n, 0);
    if (n->kind == STRUCT || n->kind == PATH)
        for (int i = 0; i < n->size; i++)
            if (!null(&n->children[i]))
                return 0;
    return 1;
}

/* Keep the first `count` values; strings leave their bytes in the heap, where nothing names them. */
static inline void cut(node *n, int64_t count)
{
    n->count = count;
    if (n->kind == LIST)
        cut(n->children, n->data ? offsets_of(n)[count] : 0);
    else if (n->kind == STRUCT || n->kind == PATH)
        for (int i = 0; i < n->size; i++)
            cut(&n->children[i], count);
}

static inline byte *heap_of(node *n, int64_t more)
{
    if (n->heap_size + more > n->heap_room || !n->heap) {
        int64_t room = 2 * n->heap_room + more + 64;
        byte *heap = realloc(n->heap, (size_t)room);
        if (!heap)
            return NULL;
        n->heap = heap;
        n->heap_room = room;
    }
    return n->heap + n->heap_size;
}

/* Write the view of a text; one of at most twelve bytes is in the view itself, a longer one in the heap already. */
static inline void view(node *n, const byte *text, int64_t size)
{
    struct {
        int32_t size;
        byte head[12];
    } v = {(int32_t)size, {0}};
    if (size <= 12) {
        memcpy(v.head, text, (size_t)size);
    } else {
        int32_t offset = (int32_t)n->heap_size; /* of the only buffer, number 0 */
        memcpy(v.head, text, 4);
        memcpy(v.head + 8, &offset, 4);
        n->heap_size += size;
    }
    memcpy(n->data + 16 * n->count, &v, 16);
}

static inline void emptied(node *n)
{
    for (int i = 0; i < n->size && n->children; i++)
        emptied(&n->children[i]);
    free(n->children);
    free(n->table);
    free(n->validity);
    free(n->data);
    free(n->heap);
}

#endif
