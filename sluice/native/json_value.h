/* Values into nodes: an object's members, an array's items, a text or a number.
 *
 * Decides which values are surely what the strict decoder (`sluice.json_rows`) would read, and reads only those: it
 * may take less than is right, never more. Each function moves `at` from the first byte of a value to behind it, and
 * says FITS; or MISFIT, where it is not surely of the node's type (its bytes were perhaps not looked at); or BROKEN,
 * where the whole row is in doubt: no JSON, a member twice, a name with escapes. What is then half-read is cut.
 */
#ifndef SLUICE_JSON_VALUE_H
#define SLUICE_JSON_VALUE_H

#include "json_names.h"

enum verdict { FITS, MISFIT, BROKEN };

typedef struct {
    int64_t row, column, start, size;
} doubt;

typedef struct {
    node root;
    names unknown;
    byte *states;
    doubt *doubts;
    int64_t doubts_size, doubts_room;
    int64_t row, nodes;
    const byte *start; /* of the value at hand */
    locale_t plain;
    zone zone; /* of date-times without offset */
    int starved;
} json;

static enum verdict read_value(json *s, node *n, const byte **at, const byte *end, int depth);

static enum verdict starved(json *s)
{
    s->starved = 1;
    return BROKEN;
}

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
        if (*child < 0 && n == &s->root && !met(&s->unknown, p, close - p, s->row)) {
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

static enum verdict keep_text(json *s, node *n, const byte *p, const byte *end, int escaped)
{
    int64_t size = end - p;
    if (escaped || size > 12 || n->kind == BINARY) {
        if (n->heap_size + size > HEAP_LIMIT)
            return MISFIT;
        byte *out = heap_of(n, size), *last;
        if (!out)
            return starved(s);
        if (n->kind == BINARY)
            last = unpacked(p, end, out);
        else if (escaped)
            last = unescaped(p, end, out);
        else
            last = (byte *)memcpy(out, p, (size_t)size) + size;
        if (!last)
            return MISFIT;
        p = out;
        size = last - out;
    }
    view(n, p, size);
    counted(n, 1);
    return FITS;
}

static int number_fits(json *s, node *n, const byte *p, const byte *end)
{
    number value;
    wide digits;
    if (!number_of(p, end, &value))
        return 0;
    if (n->kind == FLOAT) {
        double real;
        if (!float_of(p, end, &value, s->plain, &real) || !(fabs(real) < n->limit))
            return 0;
        float single = (float)real;
        memcpy(n->data + n->count * (n->width / 8), n->width == 32 ? (void *)&single : (void *)&real, (size_t)n->width / 8);
        return 1;
    }
    wide most = n->most; /* an integer's; a negative one may be one further where there are negative ones */
    if (n->kind == INTEGER && value.negative)
        most = n->b ? most + 1 : 0;
    if (!whole_of(&value, n->kind == DECIMAL ? (int)n->b : 0, most, &digits))
        return 0;
    if (value.negative)
        digits = -digits;
    memcpy(n->data + n->count * (n->width / 8), &digits, (size_t)n->width / 8);
    return 1;
}

static int time_fits(json *s, node *n, const byte *p, const byte *end, int quoted)
{
    int64_t value;
    number epoch;
    int fits = 0;
    if (n->kind == DATE)
        fits = quoted && end - p == 10 && days_of(p, &value);
    else if (n->kind == CLOCK)
        fits = quoted && clock_of(p, end, &value);
    else if (n->kind == DURATION)
        fits = quoted && duration_of(p, end, (int)n->a, &value);
    else if (quoted)
        fits = datetime_of(p, end, (int)n->a & 15, n->a & 16, s->zone, &value);
    else if (n->b >= 0)
        fits = number_of(p, end, &epoch) && epoch_of(&epoch, (int)n->b, (int)n->a & 15, &value);
    if (fits)
        memcpy(n->data + n->count * (n->width / 8), &value, (size_t)n->width / 8);
    return fits;
}

static enum verdict read_scalar(json *s, node *n, const byte **at, const byte *end)
{
    const byte *p = *at, *last;
    int quoted = *p == '"', escaped = 0, fits = 0;
    if (*p == '{' || *p == '[')
        return MISFIT;
    p += quoted;
    last = quoted ? closing_quote(p, end, &escaped) : after_scalar(p, end);
    if (!last)
        return BROKEN;
    *at = last + quoted;
    switch (n->kind) {
    case STRING:
    case BINARY:
        return quoted ? keep_text(s, n, p, last, escaped) : MISFIT;
    case ENUM:
        return quoted && child_of(n, p, last - p) >= 0 ? keep_text(s, n, p, last, 0) : MISFIT;
    case BOOLEAN:
        fits = !quoted && (*p == 't' || *p == 'f');
        set_bit(n->data, n->count, *p == 't');
        break;
    case INTEGER:
    case DECIMAL:
    case FLOAT:
        fits = number_fits(s, n, p, last);
        break;
    default:
        fits = time_fits(s, n, p, last, quoted);
    }
    if (fits)
        counted(n, 1);
    return fits ? FITS : MISFIT;
}

static enum verdict read_value(json *s, node *n, const byte **at, const byte *end, int depth)
{
    const byte *p = *at;
    if (p >= end)
        return BROKEN;
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
    default:
        return read_scalar(s, n, at, end);
    }
}

#endif
