/* Texts, numbers, words and times into nodes; what a whole reading knows.
 *
 * Decides which of them surely are what the strict decoder (`sluice.json.values`) would read: FITS; or MISFIT, where it
 * is not surely of the node's type; or BROKEN, where the whole row is in doubt.
 */
#ifndef SLUICE_JSON_SCALAR_H
#define SLUICE_JSON_SCALAR_H

#include "json_names.h"
#include "json_unpack.h"

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
    int starved, depth;
} json;

static enum verdict starved(json *s)
{
    s->starved = 1;
    return BROKEN;
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
        most = n->b & 1 ? most + 1 : 0;
    if (!whole_of(&value, n->kind == INTEGER ? 0 : (int)n->b & 255, most, &digits))
        return 0;
    if (value.negative)
        digits = -digits;
    memcpy(n->data + n->count * (n->width / 8), &digits, (size_t)n->width / 8);
    return 1;
}

/* An unscaled integer of two's complement in base64; or a number, quoted only where that is surely no base64. */
static int unscaled_fits(json *s, node *n, const byte *p, const byte *end, int quoted)
{
    byte out[18], *last;
    int point = 0, letters = 0;
    wide digits, size;
    for (const byte *c = p; c < end; c++) {
        point += *c == '.';
        letters += !is_digit(*c) && *c != '+' && *c != '-' && *c != '.' && (*c | 0x20) != 'e';
    }
    if (!quoted || (n->b & GUESSED && point))
        return number_fits(s, n, p, end);
    if (p == end || end - p > 24 || (n->b & GUESSED && !letters))
        return 0;
    if (!(last = unpacked(p, end, out)) || last == out || last - out > 16)
        return 0;
    digits = out[0] & 0x80 ? ~(wide)0 : 0;
    for (byte *c = out; c < last; c++)
        digits = digits << 8 | *c;
    size = out[0] & 0x80 ? -digits : digits;
    memcpy(n->data + n->count * 16, &digits, 16);
    return size <= n->most;
}

/* A whole number of units, written without fraction and exponent; -0 is none that all would read. */
static int bare_of(const byte *p, const byte *end, int64_t *out)
{
    number value;
    wide digits;
    for (const byte *c = p; c < end; c++)
        if (!is_digit(*c) && *c != '-')
            return 0;
    if (end - p > 19 || !number_of(p, end, &value) || !whole_of(&value, 0, INT64_MAX, &digits))
        return 0;
    if (value.negative && !digits)
        return 0;
    *out = value.negative ? -(int64_t)digits : (int64_t)digits;
    return 1;
}

/* A count of days, or of units of 10^-places since midnight; GUESSED: of microseconds that are no milliseconds. */
static int counted_fits(const node *n, int64_t count, int64_t *out)
{
    if (n->kind == DATE) {
        *out = count;
        return count >= FIRST_SECOND / 86400 && count <= LAST_SECOND / 86400;
    }
    if (count < 0 || count >= 86400 * TENS[n->b] || (n->a & GUESSED && count < 86400 * TENS[3]))
        return 0;
    *out = count * TENS[9 - n->b];
    return *out % 1000 == 0;
}

static int time_fits(json *s, node *n, const byte *p, const byte *end, int quoted)
{
    int64_t value, count;
    number epoch;
    int fits = 0, bare = n->kind == COUNT || n->a & BARE;
    if (!quoted && bare && !bare_of(p, end, &count))
        return 0;
    if (n->kind == COUNT) {
        fits = !quoted;
        value = count;
    } else if (quoted && n->a & NO_TEXT)
        return 0;
    else if (n->kind == DATE)
        fits = quoted ? end - p == 10 && days_of(p, &value) : bare && counted_fits(n, count, &value);
    else if (n->kind == CLOCK)
        fits = quoted ? clock_of(p, end, &value) : bare && counted_fits(n, count, &value);
    else if (n->kind == DURATION)
        fits = quoted && duration_of(p, end, (int)n->a, &value);
    else if (quoted)
        fits = datetime_of(p, end, (int)n->a & 15, n->a & NAIVE, s->zone, &value);
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
        fits = !(quoted && n->b & NO_TEXT) && number_fits(s, n, p, last);
        break;
    case UNSCALED:
        fits = unscaled_fits(s, n, p, last, quoted);
        break;
    default:
        fits = time_fits(s, n, p, last, quoted);
    }
    if (fits)
        counted(n, 1);
    return fits ? FITS : MISFIT;
}

#endif
