/* JSON values to Arrow buffers in one pass, by a plan of a contract's columns.
 *
 * A column whose value is in doubt is null, and in `doubts` with the place of that value, which is valid JSON; a row in
 * doubt as a whole is null, and its state is 1. The strict decoder reads both again (`sluice.json.machine`).
 */
#include "json_value.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define MANY 10000 /* rows whose memory is worth giving back at once */

/* Seven numbers a node, then its children: kind, column, a, b, place and size of the name, how many children. */
static const int64_t *planned(json *s, node *n, const int64_t *plan, const byte *names, int64_t rows)
{
    *n = (node){.kind = (enum kind)plan[0], .column = (int)plan[1], .a = plan[2], .b = plan[3], .twin = -1};
    n->name = names + plan[4];
    n->name_size = plan[5];
    n->size = (int)plan[6];
    s->nodes++;
    switch (n->kind) {
    case BOOLEAN:
        n->width = 1;
        break;
    case INTEGER:
        n->most = ((wide)1 << (n->a - (n->b & 1))) - 1;
        n->width = (int)n->a;
        break;
    case DECIMAL:
    case UNSCALED:
        n->most = 1;
        for (int64_t i = 0; i < n->a; i++)
            n->most *= 10;
        n->most -= 1;
        n->width = 128;
        break;
    case FLOAT:
        n->limit = n->a == 16 ? 65520 : n->a == 32 ? 0x1.ffffffp127 : INFINITY;
        n->width = n->a == 32 ? 32 : 64;
        break;
    case STRING:
    case ENUM:
    case BINARY:
        n->width = 128;
        break;
    case DATE:
        n->width = 32;
        break;
    case LIST:
    case DATETIME:
    case CLOCK:
    case DURATION:
    case COUNT:
        n->width = 64;
        break;
    default:
        break;
    }
    plan += 7;
    n->children = calloc((size_t)n->size + 1, sizeof *n->children);
    if (!n->children || !reserve(n, rows))
        return NULL;
    for (int i = 0; i < n->size && plan; i++)
        plan = planned(s, &n->children[i], plan, names, n->kind == LIST || n->kind == ENUM ? 0 : rows);
    return plan && index_children(n) ? plan : NULL;
}

/* One row: where its value stands, or NULL for none. */
static void read_row(json *s, const byte *p, int64_t size)
{
    enum verdict verdict = BROKEN;
    int64_t doubts = s->doubts_size;
    if (p) {
        const byte *end = p + size;
        s->start = p;
        p = after_blanks(p, end);
        if (p < end && *p == '{') {
            verdict = read_members(s, &s->root, &p, end, s->depth);
            if (verdict == FITS && after_blanks(p, end) != end)
                verdict = BROKEN;
        }
        settled(&s->unknown, verdict == FITS);
        s->states[s->row] = verdict != FITS;
    }
    if (verdict != FITS && !s->starved) {
        cut(&s->root, s->row);
        s->doubts_size = doubts;
        if (!null(&s->root))
            s->starved = 1;
    }
}

void json_free(json *s)
{
    if (!s)
        return;
    emptied(&s->root);
    free(s->unknown.all);
    free(s->unknown.met);
    free(s->unknown.table);
    free(s->unknown.heap);
    free(s->states);
    free(s->doubts);
    if (s->plain)
        freelocale(s->plain);
    int64_t rows = s->row;
    free(s);
#ifdef __GLIBC__
    if (rows > MANY)
        malloc_trim(0); /* else the C library keeps most of it: 130 MB were seen */
#endif
    (void)rows;
}

/* Read values that stand as Arrow's binary views (`valid`: bits from `first` on, or NULL: all), which were cut out from
 * `depth` levels deep. NULL: no memory. */
json *json_read(const int64_t *plan, const byte *names, const stretch *stretches, int64_t stretches_size, int64_t rows,
                int64_t first, const byte *valid, const byte *views, const byte *const *heaps, int64_t seed,
                int64_t depth)
{
    json *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->unknown.seed = (uint32_t)seed;
    s->depth = (int)depth;
    s->zone = (zone){stretches, stretches_size};
    s->states = calloc((size_t)rows + 1, 1);
    s->plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    s->starved = !s->states || !s->plain || !planned(s, &s->root, plan, names, rows);
    for (s->row = 0; s->row < rows && !s->starved; s->row++) {
        int64_t at = first + s->row;
        const byte *view = views + 16 * at, *p = view + 4;
        uint32_t parts[4]; /* size, first bytes, buffer, offset */
        memcpy(parts, view, 16);
        if (valid && !(valid[at >> 3] >> (at & 7) & 1))
            p = NULL;
        else if (parts[0] > 12)
            p = heaps[parts[2]] + parts[3];
        read_row(s, p, parts[0]);
    }
    if (s->starved) {
        json_free(s);
        return NULL;
    }
    return s;
}

static int64_t *told(const node *n, int64_t *out)
{
    int64_t valid = 0, lists = n->kind == LIST;
    for (int64_t i = 0; i < n->count; i++)
        valid += n->validity[i >> 3] >> (i & 7) & 1;
    int64_t line[] = {n->count, n->count - valid, (int64_t)n->validity, (int64_t)n->data,
                      ((n->count + lists) * n->width + 7) / 8, (int64_t)n->heap, n->heap_size};
    memcpy(out, line, sizeof line);
    out += 7;
    for (int i = 0; i < n->size; i++)
        out = told(&n->children[i], out);
    return out;
}

/* Where all stands, until `json_free`: states; doubts, and how many; names, how many, and their bytes; then of each
 * node, in the plan's order: values, nulls, validity, data and its bytes, heap and its bytes. */
void json_tell(const json *s, int64_t *out)
{
    int64_t line[] = {(int64_t)s->states,      (int64_t)s->doubts,  s->doubts_size,
                      (int64_t)s->unknown.all, s->unknown.size, (int64_t)s->unknown.heap, s->unknown.heap_size};
    memcpy(out, line, sizeof line);
    told(&s->root, out + 7);
}
