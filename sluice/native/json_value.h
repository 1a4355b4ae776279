/* Values into nodes: an object's members, an array's items, whatever lies in them.
 *
 * Decides which values are surely what the strict decoder (`sluice.json.rows`) would read, and reads only those: it
 * may take less than is right, never more. Each function moves `at` from the first byte of a value to behind it, and
 * says FITS; or MISFIT (its bytes were perhaps not looked at); or BROKEN: no JSON, a member twice, a name with escapes.
 * What is then half-read is cut.
 */
#ifndef SLUICE_JSON_VALUE_H
#define SLUICE_JSON_VALUE_H

#include "json_scalar.h"

static enum verdict read_value(json *s, node *n, const byte **at, const byte *end, int depth);

/* A column's value, or a part of one; what does not fit a column is left to the strict decoder. */
static enum verdict read_member(json *s, node *n, const byte **at, const byte *end, int depth)
{
    const byte *start = *at;
    int64_t count = n->count;
    enum verdict verdict = read_value(s, n, at, end, depth);
    if (verdict != MISFIT || n->column < 0)
        return verdict;
    cut(n, count);
    if (!(*at = after_value(start, end, depth)))
        return BROKEN;
    if (s->doubts_size == s->doubts_room) {
        int64_t room = s->doubts_room ? 2 * s->doubts_room : 256;
        doubt *doubts = realloc(s->doubts, (size_t)room * sizeof *doubts);
        if (!doubts)
            return starved(s);
        s->doubts = doubts;
        s->doubts_room = room;
    }
    s->doubts[s->doubts_size++] = (doubt){s->row, n->column, start - s->start, *at - start};
    return null(n) ? FITS : starved(s);
}

/* From behind the opening quote of a name to its value; tells the child that takes it, or -1. NULL: in doubt. */
static const byte *after_member_name(json *s, node *n, const byte *p, const byte *end, int *child)
{
    const node *guess = n->children + n->guess; /* members mostly come in the plan's order */
    const byte *close;
    int escaped;
    if (n->guess < n->size && guess->name_size >= 0 && end - p > guess->name_size && p[guess->name_size] == '"' &&
        is_name(guess, p, guess->name_size)) {
        *child = n->guess;
        close = p + guess->name_size;
    } else {
        close = closing_quote(p, end, &escaped);
        if (!close || escaped)
            return NULL;
        *child = child_of(n, p, close - p);
        if (*child < 0 && n->a == REFUSED)
            return NULL;
        if (*child < 0 && n->a == MET && !met(&s->unknown, p, close - p, s->row)) {
            s->starved = 1;
            return NULL;
        }
    }
    p = after_blanks(close + 1, end);
    return p < end && *p == ':' ? after_blanks(p + 1, end) : NULL;
}

static enum verdict read_members(json *s, node *n, const byte **at, const byte *end, int depth)
{
    const byte *p = after_blanks(*at + 1, end), *value;
    int64_t count = n->count;
    int found = 0, child;
    if (depth >= MAX_DEPTH || p >= end)
        return BROKEN;
    for (int more = *p != '}'; more;) {
        if (p >= end || *p != '"' || !(value = after_member_name(s, n, p + 1, end, &child)))
            return BROKEN;
        if (child < 0) {
            p = after_value(value, end, depth + 1);
        } else {
            n->guess = child + 1 < n->size ? child + 1 : 0;
            for (; child >= 0; child = n->children[child].twin, found++) {
                if (n->children[child].count != count) /* for the second time */
                    return BROKEN;
                p = value;
                enum verdict verdict = read_member(s, &n->children[child], &p, end, depth + 1);
                if (verdict != FITS)
                    return verdict;
            }
        }
        if (!p || (p = after_blanks(p, end)) >= end)
            return BROKEN;
        more = *p == ',';
        if (more)
            p = after_blanks(p + 1, end);
    }
    if (*p != '}')
        return BROKEN;
    for (int i = 0; found < n->size && i < n->size; i++)
        if (n->children[i].count == count && !null(&n->children[i]))
            return starved(s);
    *at = p + 1;
    counted(n, 1);
    return FITS;
}

static enum verdict read_items(json *s, node *n, const byte **at, const byte *end, int depth)
{
    const byte *p = after_blanks(*at + 1, end);
    node *item = n->children;
    int64_t first = item->count;
    if (depth >= MAX_DEPTH || p >= end)
        return BROKEN;
    for (int more = *p != ']'; more;) {
        enum verdict verdict = read_value(s, item, &p, end, depth + 1);
        if (verdict != FITS)
            return verdict;
        if ((p = after_blanks(p, end)) >= end)
            return BROKEN;
        more = *p == ',';
        if (more)
            p = after_blanks(p + 1, end);
    }
    if (*p != ']')
        return BROKEN;
    if (n->a >= 0 && item->count - first != n->a)
        return MISFIT;
    *at = p + 1;
    offsets_of(n)[n->count + 1] = item->count;
    counted(n, 1);
    return FITS;
}

static enum verdict read_value(json *s, node *n, const byte **at, const byte *end, int depth)
{
    const byte *p = *at;
    if (p >= end || n->kind == NEVER)
        return BROKEN;
    if (n->kind == ANY) {
        if (!(*at = after_value(p, end, depth)))
            return BROKEN;
        return null(n) ? FITS : starved(s);
    }
    if (*p == 'n') {
        if (!(*at = after_word(p, end, "null", 4)))
            return BROKEN;
        return null(n) ? FITS : starved(s);
    }
    if (!reserve(n, n->count + 1))
        return starved(s);
    switch (n->kind) {
    case PATH:
        return *p == '{' ? read_members(s, n, at, end, depth) : BROKEN;
    case STRUCT:
        return *p == '{' ? read_members(s, n, at, end, depth) : MISFIT;
    case LIST:
        return *p == '[' ? read_items(s, n, at, end, depth) : MISFIT;
    case UNSURE:
        return MISFIT;
    default:
        return read_scalar(s, n, at, end);
    }
}

#endif
