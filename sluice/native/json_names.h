/* How many values have a member that nothing takes, by its name; a value's names count once it is read to its end. */
#ifndef SLUICE_JSON_NAMES_H
#define SLUICE_JSON_NAMES_H

#include "json_node.h"

typedef struct {
    int64_t at, size, count, row; /* where its bytes are; how many values have it; the last of them */
} name;

typedef struct {
    name *all;
    int64_t size, room;
    int64_t *met; /* by the value at hand */
    int64_t met_size;
    int32_t *table; /* places in `all`; -1: none */
    uint32_t mask, seed;
    byte *heap;
    int64_t heap_size, heap_room;
} names;

/* Twice the room, and a table with twice as many places as that. */
static inline int roomier(names *n)
{
    int64_t room = n->room ? 2 * n->room : 64;
    name *all = realloc(n->all, (size_t)room * sizeof *all);
    if (!all)
        return 0;
    n->all = all;
    int64_t *met = realloc(n->met, (size_t)room * sizeof *met);
    if (!met)
        return 0;
    n->met = met;
    int32_t *table = realloc(n->table, (size_t)(2 * room) * sizeof *table);
    if (!table)
        return 0;
    n->table = table;
    n->room = room;
    n->mask = (uint32_t)(2 * room - 1);
    memset(table, 0xFF, (size_t)(2 * room) * sizeof *table);
    for (int64_t i = 0; i < n->size; i++) {
        uint32_t at = hash_of(n->heap + all[i].at, all[i].size, n->seed) & n->mask;
        while (table[at] >= 0)
            at = (at + 1) & n->mask;
        table[at] = (int32_t)i;
    }
    return 1;
}

/* Note a name of the value `row`. */
static inline int met(names *n, const byte *p, int64_t size, int64_t row)
{
    if (n->size == n->room && !roomier(n))
        return 0;
    uint32_t at = hash_of(p, size, n->seed) & n->mask;
    for (; n->table[at] >= 0; at = (at + 1) & n->mask) {
        name *known = &n->all[n->table[at]];
        if (known->size == size && !memcmp(n->heap + known->at, p, (size_t)size)) {
            if (known->row != row)
                n->met[n->met_size++] = n->table[at];
            known->row = row;
            return 1;
        }
    }
    if (n->heap_size + size > n->heap_room || !n->heap) {
        int64_t room = 2 * n->heap_room + size + 64;
        byte *heap = realloc(n->heap, (size_t)room);
        if (!heap)
            return 0;
        n->heap = heap;
        n->heap_room = room;
    }
    memcpy(n->heap + n->heap_size, p, (size_t)size);
    n->table[at] = (int32_t)n->size;
    n->met[n->met_size++] = n->size;
    n->all[n->size++] = (name){n->heap_size, size, 0, row};
    n->heap_size += size;
    return 1;
}

/* The value is read, or it is not. */
static inline void settled(names *n, int read)
{
    for (int64_t i = 0; i < n->met_size; i++)
        n->all[n->met[i]].count += read;
    n->met_size = 0;
}

#endif
